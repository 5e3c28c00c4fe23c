// Package vm tests the one executable on a machine of its own: a bare Debian 12
// under QEMU with systemd and cgroup v2, without a network, without any tool that
// skiff could lean on, with a wrong clock, with little memory, and after power
// cuts; and on one with what compiles AppArmor profiles and an NFS server, where a
// node can do all that a PodSpec says.
//
// A boot of the machine runs one function of guest/, whose steps report on the
// second serial port; each becomes a subtest. The machine's disk lives through
// all boots of a run. The tests need the build tag vm, root, and QEMU: make
// vm-test.
package vm
