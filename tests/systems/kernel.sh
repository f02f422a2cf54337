# A release's own kernel in its root, without what would start it on a real machine: /boot/vmlinuz, and
# /boot/initrd, which finds the root on the first disk. Runs in the root while it is being built.
#
# $1 the package that the release's kernel goes by.
set -eu
cd /tmp
# The package itself only depends on the kernel of the day, which wants a tool for initial disks.
package=$(apt-cache depends "$1" | sed -n 's/.*Depends: \(linux-image-\S*\).*/\1/p' | head -n 1)
apt-get -qq download "$package" 2>/dev/null
dpkg-deb --extract "$package"_*.deb /
rm "$package"_*.deb
version=${package#linux-image-}
mv "/boot/vmlinuz-$version" /boot/vmlinuz
depmod "$version"

mkdir initrd
cd initrd
mkdir bin dev proc root
cp "$(command -v busybox)" bin/
for module in virtio_pci virtio_blk ext4; do
    modprobe --set-version "$version" --show-depends "$module"
done | sed -n 's/^insmod \(\S*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
    name=$(basename "$file" .xz)
    case $file in
    *.xz) busybox unxz -c "$file" >"$name" ;;
    *) cp "$file" "$name" ;;
    esac
    echo "insmod /$name" >>modules
done
cat >init <<'END'
#!/bin/busybox sh
/bin/busybox --install /bin
mount -t devtmpfs dev /dev
. /modules
until [ -b /dev/vda ]; do sleep 0.05; done
mount -t ext4 /dev/vda /root
mount --move /dev /root/dev
exec switch_root /root /sbin/init
END
chmod 755 init
find . | busybox cpio -o -H newc | gzip -1 >/boot/initrd
cd ..
rm -r initrd
