#!/bin/bash
# Makes the machines that the tests boot, once each, on the first use.
#
#   e2e/vm/rootfs.sh DIRECTORY
#
# DIRECTORY gets vmlinuz, initrd.img and two raw ext4 file systems: disk.img, a Debian
# 12 with systemd and its cloud kernel, and nothing that skiff could lean on; and
# node.img, the same with what compiles AppArmor profiles, an NFS server, and the bus
# that logind needs.
set -euo pipefail
dir=$1
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
outfit="apparmor dbus nfs-kernel-server"
[ "$(cat "$dir/node.packages" 2>/dev/null)" = "$outfit" ] || rm -f "$dir/node.img"
[ ! -e "$dir/disk.img" ] || [ ! -e "$dir/node.img" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "making a root file system needs root" >&2; exit 1; }

mkdir -p "$dir"
root=$(mktemp -d "$dir/root.XXXXXX")
clean() {
	umount "$root/proc" 2>/dev/null || true
	umount "$root" 2>/dev/null || true
	rm -rf --one-file-system "$root" "$dir/disk.img.new" "$dir/node.img.new"
}
trap clean EXIT

bare() {
	debootstrap --variant=minbase \
		--include=systemd,systemd-sysv,udev,kmod,linux-image-cloud-amd64,initramfs-tools \
		bookworm "$root" "$mirror" >"$dir/debootstrap.log" 2>&1 ||
		{ tail -5 "$dir/debootstrap.log" >&2; exit 1; }

	for tool in runc containerd iptables nft ip curl kubectl busybox apparmor_parser mount.nfs; do
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
	rm -rf "${root:?}"/*
	mv "$dir/disk.img.new" "$dir/disk.img"
}

outfitted() {
	cp --sparse=always "$dir/disk.img" "$dir/node.img.new"
	mount -o loop "$dir/node.img.new" "$root"
	mount -t proc proc "$root/proc"
	# The mirror is found as this machine finds it, and no service is started.
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	cp /etc/hosts "$root/etc/hosts"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	{
		chroot "$root" apt-get update &&
			chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $outfit # words
	} >"$dir/packages.log" 2>&1 || { tail -5 "$dir/packages.log" >&2; exit 1; }
	# The tests start the server; and skiff mounts without these.
	rm -f "$root"/etc/systemd/system/*.wants/{nfs,rpc}* "$root"/sbin/{mount,umount}.nfs*
	rm -rf "$root"/usr/sbin/policy-rc.d "$root"/etc/resolv.conf "$root"/var/cache/apt/archives/*.deb \
		"$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
	echo '127.0.0.1 localhost' >"$root/etc/hosts"
	umount "$root/proc"
	umount "$root"
	mv "$dir/node.img.new" "$dir/node.img"
	echo "$outfit" >"$dir/node.packages"
}

[ -e "$dir/disk.img" ] || bare
[ -e "$dir/node.img" ] || outfitted
