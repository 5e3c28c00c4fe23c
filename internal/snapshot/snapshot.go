// Package snapshot saves the cluster's store to one file, and brings a server
// back from one.
//
// Manifest says what a snapshot holds; a Source is what Save makes one of; a
// Directory and a Bucket are Places where snapshots are kept; Restore makes one
// the data of a server. The invariant: a file that has a snapshot's name was
// read back whole after it was written, and a restore leaves the old data or
// the new in place, never a part of either. The package never decides when to
// save and never talks to a server.
//
// # The file
//
// A snapshot is a tar archive. Its entries, in this order:
//
//	manifest.json   what it is: see Manifest
//	store.db        the store, as bolt.Open accepts it
//	server/…        with a full snapshot: keys, certificates and tokens, by their
//	                paths below the server's directory
//	SHA256SUMS      the SHA-256 of every entry before, as sha256sum writes it
//
// Compressed it is a zstd stream with a checksum of its own, encrypted an age
// file for a passphrase around that. The name tells: NAME-NODE-UNIXTIME.tar,
// then .zst, then .age. So a person with age, zstd and tar can open it:
//
//	age -d x.tar.zst.age | zstd -d | tar x && sha256sum -c SHA256SUMS
package snapshot

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// layout is the number of how a snapshot is laid out.
const layout = 1

// Manifest says what a snapshot holds.
type Manifest struct {
	Format     int            `json:"format"`
	Skiff      string         `json:"skiff"`      // version that saved it
	Kubernetes string         `json:"kubernetes"` // version of the API
	Taken      time.Time      `json:"taken"`      // by the machine's clock
	Node       string         `json:"node"`       // that saved it
	Revision   store.Revision `json:"revision"`
	Objects    map[string]int `json:"objects"` // by resource, such as "deployments.apps"
	StoreBytes int64          `json:"storeBytes"`
	Full       bool           `json:"full"`
	// Authority is the SHA-256 of the cluster's certificate authority, "" if it
	// had none. A full snapshot has the authority itself.
	Authority string `json:"authority,omitempty"`
}

func decodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: read the manifest: %v", errDamaged, err)
	}
	if m.Format > layout {
		return m, fmt.Errorf("the snapshot has format %d and this program knows %d: use the skiff that saved it (%s), or a later one",
			m.Format, layout, m.Skiff)
	}
	if m.Format < 1 {
		return m, fmt.Errorf("%w: the manifest has no format", errDamaged)
	}
	return m, nil
}

// File is a snapshot in a place.
type File struct {
	Name      string    `json:"name"`
	Location  string    `json:"location"` // a URL
	Bytes     int64     `json:"bytes"`
	Created   time.Time `json:"created"`
	Encrypted bool      `json:"encrypted"`
	// Manifest is nil where the place does not tell without reading all of the
	// file, or the file is encrypted.
	Manifest *Manifest `json:"manifest,omitempty"`
}

// fileName are the names that snapshots have: base, number, endings.
var fileName = regexp.MustCompile(`^(.+)-(\d+)\.tar(\.zst)?(\.age)?$`)

// number returns the UNIXTIME of a name, and whether it is a snapshot's at all.
func number(name string) (base string, n int64, ok bool) {
	parts := fileName.FindStringSubmatch(name)
	if parts == nil {
		return "", 0, false
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	return parts[1], n, err == nil
}

// Base is what the names of a node's snapshots begin with.
func Base(name, node string) string { return name + "-" + node }

func encrypted(name string) bool {
	parts := fileName.FindStringSubmatch(name)
	return parts != nil && parts[4] != ""
}
