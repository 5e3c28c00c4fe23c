package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultHollowDir is where hollow nodes are kept unless told otherwise.
const DefaultHollowDir = "/var/lib/skiff-hollow"

// Hollow are the settings of `skiff hollow`.
type Hollow struct {
	Count      int
	NamePrefix string // of the nodes' names, before their numbers
	DataDir    string
	Servers    []string // https://HOST:PORT, tried in turn
	Token      string
	TokenFile  string
	Addresses  netip.Prefix // of the nodes, in turn; nothing has them
	NodeLabels []Label
	NodeTaints []corev1.Taint
	NoTunnel   bool
	Joins      int // at the same time
	LogLevel   string
	LogFormat  string
}

// DefaultHollow returns the settings where nothing is told. Addresses are from the
// range for measurements, RFC 2544.
func DefaultHollow() Hollow {
	return Hollow{
		Count: 1, NamePrefix: "hollow-", DataDir: DefaultHollowDir,
		Addresses: netip.MustParsePrefix("198.18.0.0/15"), Joins: 32,
		LogLevel: "warn", LogFormat: "console",
	}
}

// Settings binds every field to its key.
func (h *Hollow) Settings() []Setting {
	return []Setting{
		{"count", "how many nodes", countValue(&h.Count)},
		{"name-prefix", "what the nodes' names begin with; a number follows", stringValue(&h.NamePrefix)},
		{"server", "servers of the cluster, https://HOST:6443, tried in turn", stringsValue(&h.Servers)},
		{"token", "token that lets the nodes join (see skiff token)", stringValue(&h.Token)},
		{"token-file", "file that holds the token", pathValue(&h.TokenFile)},
		{"data-dir", "where the nodes' keys and certificates are kept", pathValue(&h.DataDir)},
		{"addresses", "range from which the nodes are given addresses", prefixValue(&h.Addresses)},
		{"node-label", "labels for the nodes", labelsValue(&h.NodeLabels)},
		{"node-taint", "taints for the nodes when they register", taintsValue(&h.NodeTaints)},
		{"no-tunnel", "open no tunnels to the server", boolValue(&h.NoTunnel)},
		{"joins", "how many nodes join at the same time", countValue(&h.Joins)},
		{"log-level", "least level that is logged", choiceValue(&h.LogLevel, "debug", "info", "warn", "error")},
		{"log-format", "form of the log", choiceValue(&h.LogFormat, "console", "json")},
	}
}

// Validate fills what derives from other settings and returns everything that
// does not fit together, joined in one error.
func (h *Hollow) Validate() error {
	var errs []error
	if h.Count < 1 || h.Joins < 1 {
		errs = append(errs, errors.New("count, joins: expected 1 or more"))
	}
	if problems := validation.IsDNS1123Subdomain(h.Name(max(h.Count, 1) - 1)); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("name-prefix %q: %s", h.NamePrefix, problems[0]))
	}
	if last := h.Address(max(h.Count, 1) - 1); !h.Addresses.Contains(last) {
		errs = append(errs, fmt.Errorf("addresses %s: the range has no room for %d nodes; name a larger one", h.Addresses, h.Count))
	}
	errs = append(errs, serverURLs(h.Servers))
	var err error
	if h.Token, err = readToken(h.Token, h.TokenFile); !errors.Is(err, fs.ErrNotExist) { // nodes that have joined do not need it
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Name is what the i-th node is called, from 0.
func (h *Hollow) Name(i int) string { return fmt.Sprint(h.NamePrefix, i) }

// Address is the i-th node's, from 0. The range's first is nobody's.
func (h *Hollow) Address(i int) netip.Addr {
	a := h.Addresses.Masked().Addr()
	for range i + 1 {
		a = a.Next()
	}
	return a
}

func prefixValue(target *netip.Prefix) Value {
	return single[netip.Prefix]{target, "cidr", "a network in CIDR notation such as 198.18.0.0/15", func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("invalid network %q", s)
		}
		return p, nil
	}, netip.Prefix.String}
}
