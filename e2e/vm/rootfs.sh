#!/bin/bash
# Makes the machine that the tests boot, once: a Debian 12 with systemd and its
# cloud kernel, and nothing that skiff could lean on.
#
#   e2e/vm/rootfs.sh DIRECTORY
#
# DIRECTORY gets vmlinuz, initrd.img and disk.img, a raw ext4 file system.
set -euo pipefail
dir=$1
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[ ! -e "$dir/disk.img" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "making a root file system needs root" >&2; exit 1; }

mkdir -p "$dir"
root=$(mktemp -d "$dir/root.XXXXXX")
trap 'rm -rf "$root" "$dir/disk.img.new"' EXIT
debootstrap --variant=minbase \
	--include=systemd,systemd-sysv,udev,kmod,linux-image-cloud-amd64,initramfs-tools \
	bookworm "$root" "$mirror" >"$dir/debootstrap.log" 2>&1 ||
	{ tail -5 "$dir/debootstrap.log" >&2; exit 1; }

for tool in runc containerd iptables nft ip curl kubectl busybox; do
	if chroot "$root" sh -c "command -v $tool" >/dev/null; then
		echo "the machine has $tool: the tests would prove less" >&2
		exit 1
	fi
done
# debootstrap copies this machine's.
rm -f "$root/etc/resolv.conf"
echo box >"$root/etc/hostname"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
# The tests' steps come on a second disk, see guest/.
cat >"$root/etc/systemd/system/steps.service" <<-'END'
	[Unit]
	Description=What the test wants done
	After=multi-user.target
	[Service]
	Type=oneshot
	ExecStartPre=/bin/mount -o ro /dev/vdb /mnt
	ExecStart=/bin/bash /mnt/steps.sh
	StandardOutput=journal+console
	StandardError=journal+console
	[Install]
	WantedBy=graphical.target
END
ln -sf /lib/systemd/system/graphical.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -sf ../steps.service "$root/etc/systemd/system/graphical.target.wants/steps.service"
# Timers of the distribution's would only disturb what is measured.
ln -sf /dev/null "$root/etc/systemd/system/apt-daily.timer"
ln -sf /dev/null "$root/etc/systemd/system/apt-daily-upgrade.timer"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS1.service"

cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd.img"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
truncate -s 3G "$dir/disk.img.new"
mkfs.ext4 -q -d "$root" "$dir/disk.img.new"
mv "$dir/disk.img.new" "$dir/disk.img"
