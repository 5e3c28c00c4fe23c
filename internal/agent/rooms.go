package agent

// rooms reads what a machine has left whose disk is at dir and whose images are at
// images, "" for at the same place. Apart says that these have a disk of their own.
// Memory that the kernel would give back counts as left: unlike upstream's working
// set, files that were read lately do not drive Pods away.
func rooms(dir, images string) (out []Room, apart bool) {
	out = []Room{{"memory.available", meminfo("MemAvailable"), meminfo("MemTotal")}}
	node, err := readDisk(dir)
	if err == nil {
		out = append(out, Room{"nodefs.available", node.Free, node.Total}, Room{"nodefs.inodesFree", int64(node.InodesFree), int64(node.Inodes)})
	}
	own := node
	if images != "" {
		if d, imagesErr := readDisk(images); imagesErr == nil {
			apart = err == nil && d.Device != node.Device
			own, err = d, nil
		}
	}
	if err == nil {
		out = append(out, Room{"imagefs.available", own.Free, own.Total}, Room{"imagefs.inodesFree", int64(own.InodesFree), int64(own.Inodes)})
	}
	used, limit, ok := processes(firstFile("/proc/loadavg"), firstFile("/proc/sys/kernel/pid_max"), firstFile("/proc/sys/kernel/threads-max"))
	if ok {
		out = append(out, Room{"pid.available", limit - used, limit})
	}
	return out, apart
}
