# From fresh namespaces to a guest's own init: a root that can be written to, with what a machine's
# kernel and firmware would have prepared in it.
#
# $1 the guest's directory, $2 the layers of its root, $3 its name.
# Waits for the network card before init starts: a line at the fifo `gate`.
set -eu
dir=$1 layers=$2 root=$1/root
hostname "$3"
# This process as the machine sees it: the old /proc is still in place.
read -r pid rest </proc/self/stat
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$dir/upper,workdir=$dir/work" "$root"
# Engines keep their own overlays, which cannot lie on this one.
for store in docker containerd; do
    mkdir -p "$root/var/lib/$store"
    mount --bind "$dir/$store" "$root/var/lib/$store"
done
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# The kernel is the machine's: a guest sets what is its network's, and nothing else.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/sys"
mount -o remount,bind,rw,nosuid,nodev,noexec "$root/proc/sys/net"
for file in sysrq-trigger kcore; do
    [ ! -e "$root/proc/$file" ] || mount --bind /dev/null "$root/proc/$file"
done
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
dev=$root/dev
mount -t tmpfs -o mode=755,nosuid tmpfs "$dev"
mknod -m 666 "$dev/null" c 1 3
mknod -m 666 "$dev/zero" c 1 5
mknod -m 666 "$dev/full" c 1 7
mknod -m 666 "$dev/random" c 1 8
mknod -m 666 "$dev/urandom" c 1 9
mknod -m 666 "$dev/tty" c 5 0
# Nobody looks at the console.
mknod -m 600 "$dev/console" c 1 3
mkdir "$dev/pts" "$dev/shm" "$dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$dev/shm"
mount -t mqueue mqueue "$dev/mqueue"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"
ln -s fd/0 "$dev/stdin"
ln -s fd/1 "$dev/stdout"
ln -s fd/2 "$dev/stderr"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
echo "$pid" >"$dir/init.new"
mv "$dir/init.new" "$dir/init"
read -r _ <"$dir/gate"
cd "$root"
mkdir -p .old
pivot_root . .old
exec env -i container=dfw-life PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c 'umount -l /.old && exec /sbin/init'
