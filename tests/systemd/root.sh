# Makes the system that is booted: root.sh WORK TARGET SUITE MIRROR PACKAGES. Runs in a mount and a PID namespace of its
# own, so that nothing of it is left when it is ended. In memory, where dpkg's many fsyncs cost nothing.
set -eu
work=$1 target=$2 suite=$3 mirror=$4 packages=$5
mount -t tmpfs -o mode=0755 tmpfs "$work"
timeout 600 debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" "$mirror"
cd "$work/root"
rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/*
# What would reach out of the machine into the one it runs on, or only takes time.
for unit in systemd-sysctl.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty.target; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
# Started by the test that wants it.
rm -f etc/systemd/system/multi-user.target.wants/nginx.service
rm -rf "$target.new"
cp -a "$work/root" "$target.new"
mv "$target.new" "$target"
