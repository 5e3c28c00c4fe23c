package config

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// DefaultDataDir is where skiff keeps its data unless told otherwise.
const DefaultDataDir = "/var/lib/skiff"

// Host names everything a node owns on its machine. All of it derives from the
// data directory, so that nodes with different ones share a machine and each
// undoes only its own.
type Host struct {
	DataDir    string // durable: store, certificates, images, Pod directories
	RunDir     string // gone after a reboot: sockets, namespace pins, shims' bundles
	LogDir     string // the containers' logs: LogDir/NAMESPACE_NAME_UID/CONTAINER/N.log
	CgroupRoot string // cgroup under which the Pods' cgroups are, without leading slash
	Table      string // nftables table
	LinkPrefix string // of the names of the host's ends of veth pairs; at most 6 bytes
}

// NewHost derives a node's names from its data directory, which must be an
// absolute path. The default one gets the names people know.
func NewHost(dataDir string) Host {
	dataDir = filepath.Clean(dataDir)
	if dataDir == DefaultDataDir {
		return Host{
			DataDir: dataDir, RunDir: "/run/skiff", LogDir: "/var/log/pods",
			CgroupRoot: "kubepods", Table: "skiff", LinkPrefix: "skf",
		}
	}
	sum := sha256.Sum256([]byte(dataDir))
	hash := hex.EncodeToString(sum[:4])
	return Host{
		DataDir:    dataDir,
		RunDir:     "/run/skiff-" + hash,
		LogDir:     filepath.Join(dataDir, "agent", "logs"),
		CgroupRoot: "kubepods-" + hash,
		Table:      "skiff-" + hash,
		LinkPrefix: "s" + hash[:4],
	}
}

// ServerDir is where a server keeps all that is the cluster's.
func (h Host) ServerDir() string { return filepath.Join(h.DataDir, "server") }

// StorePath is where a server keeps the cluster's objects.
func (h Host) StorePath() string { return filepath.Join(h.ServerDir(), "store.db") }
