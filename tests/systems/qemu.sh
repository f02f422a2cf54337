# Runs a guest in QEMU's own root.
#
# $1 the root that has QEMU in it, $2 the guest's directory, $3 what its kernel is told, $4 the tap in this
# network namespace, $5 the card's address.
mount --bind "$2" "$1/mnt"
mount --bind /dev "$1/dev"
cd /
# A processor that has little: page tables of four levels, which an emulator walks in software, and no registers wider
# than 128 bits, which it is twice as slow with.
exec chroot "$1" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu qemu64,+rdrand -smp 1 -m 1024 \
    -nodefaults -no-user-config -display none -serial file:/mnt/console \
    -kernel /mnt/vmlinuz -initrd /mnt/initrd -append "$3" \
    -drive file=/mnt/disk,format=raw,if=virtio,cache=unsafe \
    -netdev tap,id=lan,ifname="$4",script=no,downscript=no \
    -device virtio-net-pci,netdev=lan,mac="$5",romfile= -device virtio-rng-pci \
    -device virtio-serial-pci -chardev socket,id=agent,path=/mnt/agent,server=on,wait=off \
    -device virtserialport,chardev=agent,name=agent
