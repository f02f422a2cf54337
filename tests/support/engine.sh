# What an engine's first process does before it turns into the helper: it gives the engine a place
# of its own in which it finds nothing of the machine's engine, containerd, locks and sockets.
#
# $1 the lab's directory, $2 this test program, $3 the word that makes a helper of it, $4 the root
# of another release or nothing, $5 the directory of the programs under test.
set -eu
lab=$1 root=$4 new=
# This process as the machine sees it: the old /proc is still in place.
read -r pid rest </proc/self/stat
cgroup=/sys/fs/cgroup
if [ -n "$root" ]; then
    new=$lab/root
    mkdir "$new" "$lab/upper" "$lab/work"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$lab/upper,workdir=$lab/work" "$new"
    for directory in "$lab" "$5"; do
        mkdir -p "$new$directory"
        mount --bind "$directory" "$new$directory"
    done
    mount --rbind /dev "$new/dev"
    # Podman takes no mixture of the versions of cgroups, and Docker takes either.
    if [ -d $cgroup/unified ]; then cgroup=$cgroup/unified; fi
fi
# A fresh /sys shows the host's network devices, and keeps the machine's cgroups.
mount --rbind $cgroup "$lab/cgroup"
mount -t sysfs sysfs "$new/sys"
mount --rbind "$lab/cgroup" "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mkdir -p "$new/run/lock" "$new/run/podman"
for store in docker containers; do
    if [ -n "$new" ] || [ $store = docker ]; then
        mkdir -p "$lab/$store" "$new/var/lib/$store"
        mount --bind "$lab/$store" "$new/var/lib/$store"
    fi
done
mount -t proc proc "$new/proc"
if [ -n "$new" ]; then
    # No container needs a cgroup here, and no janitor would know where Podman makes them.
    mkdir -p "$new/etc/containers"
    printf '[containers]\ncgroups = "disabled"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' \
        >"$new/etc/containers/containers.conf"
    # Not chroot: a container's runtime wants its root to be a mount point.
    cd "$new"
    mkdir .old
    pivot_root . .old
    umount -l /.old
fi
echo "$pid" >"$lab/init.new"
mv "$lab/init.new" "$lab/init"
exec "$2" "$3" init
