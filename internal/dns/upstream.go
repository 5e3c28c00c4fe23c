package dns

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// systemd-resolved's stub, and the file where it says whom it asks.
	resolvedStub = "127.0.0.53"
	resolvedConf = "/run/systemd/resolve/resolv.conf"
	// rest is how long an upstream that did not answer comes after the others.
	rest = 10 * time.Second
	// upstreamTimeout is how long one server may take before the next is asked.
	upstreamTimeout = 2 * time.Second
	restingTimeout  = 300 * time.Millisecond
)

// upstreams are the machine's resolvers, read again when their file changes:
// machines move between networks.
type upstreams struct {
	path string
	own  []netip.Addr // asking ourselves would never end
	port uint16

	mu     sync.Mutex // guards what follows
	read   stamp
	stub   stamp // of resolvedConf
	addrs  []netip.AddrPort
	failed map[netip.AddrPort]time.Time
}

// stamp tells whether a file is the one that was read.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) stamp {
	fi, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{fi.ModTime(), fi.Size()}
}

// list returns whom to ask, in order: as the file has them, but those that did
// not answer lately last.
func (u *upstreams) list(now time.Time) []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s, stub := stampOf(u.path), stampOf(resolvedConf); u.addrs == nil || s != u.read || stub != u.stub {
		u.read, u.stub = s, stub
		u.addrs = u.load()
		u.failed = map[netip.AddrPort]time.Time{}
	}
	out := slices.Clone(u.addrs)
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		return boolInt(u.resting(a, now)) - boolInt(u.resting(b, now))
	})
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (u *upstreams) resting(a netip.AddrPort, now time.Time) bool {
	at, did := u.failed[a]
	return did && now.Sub(at) < rest
}

// patience is how long to wait for the server: not long again for one that did
// not answer lately, or a machine without its network would hold up everybody.
func (u *upstreams) patience(a netip.AddrPort, now time.Time) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.resting(a, now) {
		return restingTimeout
	}
	return upstreamTimeout
}

// answered and silent note how asking went.
func (u *upstreams) answered(a netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.failed, a)
}

func (u *upstreams) silent(a netip.AddrPort, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed[a] = now
}

// load reads the file. Where it names systemd-resolved's stub, the servers
// behind it are asked themselves.
func (u *upstreams) load() []netip.AddrPort {
	addrs := nameservers(u.path)
	if slices.Contains(addrs, netip.MustParseAddr(resolvedStub)) {
		if behind := nameservers(resolvedConf); len(behind) > 0 {
			addrs = behind
		}
	}
	out := []netip.AddrPort{}
	for _, a := range addrs {
		if !slices.Contains(u.own, a.WithZone("")) {
			out = append(out, netip.AddrPortFrom(a, u.port))
		}
	}
	return out
}

// nameservers reads the servers that a resolv.conf names.
func nameservers(path string) (out []netip.Addr) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}
