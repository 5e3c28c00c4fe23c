package service

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/skiff-sh/skiff/internal/nft"
)

// masqueradeMark is the mark that network/pod translates the source by.
const masqueradeMark = 0x4000

// layout names and makes what the table of one family consists of:
//
//	services        dispatches by svc, then by nodeport
//	nK              one of K endpoints at random
//	xK              the same, and the source is translated
//	eI              destination looked up in map epI
//	…-aS            the same three where a client in set clientsI keeps its
//	                endpoint for S seconds
//	none            where nothing shall answer: reject or drop
//
// What begins with "port-" is the same keyed by protocol and port alone.
type layout struct{ family nft.Family }

func (l layout) svc(port bool) nft.Set  { return l.verdicts(prefix(port, "svc"), port) }
func (l layout) none(port bool) nft.Set { return l.verdicts(prefix(port, "none"), port) }
func (l layout) ep(port bool, i int) nft.Set {
	return nft.Set{Name: prefix(port, "ep"+strconv.Itoa(i)), Key: l.key(port), Data: nft.EndpointValue(l.family)}
}

// clients remembers who has the endpoint of the index: source, destination,
// protocol and port.
func (l layout) clients(i int) nft.Set {
	return nft.Set{Name: "clients" + strconv.Itoa(i), Key: nft.ClientKey(l.family), Timeout: true}
}

func (l layout) verdicts(name string, port bool) nft.Set {
	return nft.Set{Name: name, Key: l.key(port), Data: []nftables.SetDatatype{nftables.TypeVerdict}}
}

func (l layout) key(port bool) []nftables.SetDatatype {
	if port {
		return nft.PortKey()
	}
	return nft.AddressPortKey(l.family)
}

func prefix(port bool, name string) string {
	if port {
		return "port-" + name
	}
	return name
}

// chainOf is the chain that a frontend's packets go to, "" without endpoints.
func chainOf(f Frontend) string {
	if len(f.Endpoints) == 0 {
		return ""
	}
	name := "n"
	if f.Masquerade {
		name = "x"
	}
	return prefix(!f.Key.Addr.IsValid(), name+strconv.Itoa(len(f.Endpoints))+affinitySuffix(f.Affinity))
}

// noneOf is the chain that a frontend's packets go to in the filter hooks, ""
// with endpoints. Unless told here, the Service range is rejected as a whole.
func noneOf(f Frontend) string {
	switch {
	case len(f.Endpoints) > 0:
		return ""
	case f.Drop:
		return "drop"
	}
	return "reject"
}

func affinitySuffix(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return "-a" + strconv.Itoa(int(d/time.Second))
}

func load(port bool, f nft.Family) []expr.Any {
	if port {
		return nft.Port()
	}
	return nft.AddressPort(f)
}

// base is what is there with no Service at all.
func (l layout) base(serviceCIDRs []netip.Prefix) nft.Change {
	reach := nft.Rule(load(false, l.family), nft.Dispatch("svc"))
	ports := nft.Rule(nft.ToLocal(), nft.Port(), nft.Dispatch("port-svc"))
	if l.family == nft.IPv4 {
		// A source of 127.0.0.1 could not leave the loopback.
		ports = nft.Rule(nft.ToLocal(), nft.ToNot(netip.MustParsePrefix("127.0.0.0/8")), nft.Port(), nft.Dispatch("port-svc"))
	}
	none := [][]expr.Any{
		nft.Rule(load(false, l.family), nft.Dispatch("none")),
		nft.Rule(nft.ToLocal(), nft.Port(), nft.Dispatch("port-none")),
	}
	forward := [][]expr.Any{
		// They would leave untranslated, and whoever gets one ends the
		// connection that it looks like it is of.
		nft.Rule(nft.Invalid(), nft.Drop()),
		nft.Rule(nft.New(), nft.DestinationChanged(), nft.BackWhereItCameFrom(), nft.Mark(masqueradeMark)),
		none[0],
	}
	output := [][]expr.Any{none[0], none[1]}
	for _, c := range serviceCIDRs {
		forward = append(forward, nft.Rule(nft.To(c), nft.Goto("reject")))
		output = append(output, nft.Rule(nft.To(c), nft.ToElsewhere(), nft.Goto("reject")))
	}
	nat := func(h *nftables.ChainHook) *nft.Hook {
		return &nft.Hook{Type: nftables.ChainTypeNAT, Hook: h, Priority: nftables.ChainPriorityNATDest}
	}
	filter := func(h *nftables.ChainHook) *nft.Hook {
		return &nft.Hook{Type: nftables.ChainTypeFilter, Hook: h, Priority: nftables.ChainPriorityFilter}
	}
	return nft.Change{
		Sets: []nft.Set{l.svc(false), l.svc(true), l.none(false), l.none(true)},
		NewChains: []nft.Chain{
			{Name: "prerouting", Hook: nat(nftables.ChainHookPrerouting), Rules: [][]expr.Any{nft.Jump("services")}},
			{Name: "output", Hook: nat(nftables.ChainHookOutput), Rules: [][]expr.Any{nft.Jump("services")}},
			{Name: "services", Rules: [][]expr.Any{reach, ports}},
			{Name: "filter-input", Hook: filter(nftables.ChainHookInput), Rules: none},
			{Name: "filter-forward", Hook: filter(nftables.ChainHookForward), Rules: forward},
			{Name: "filter-output", Hook: filter(nftables.ChainHookOutput), Rules: output},
			// TCP clients on this machine would not get the ICMP answer: it
			// would have a Service's address as source.
			{Name: "reject", Rules: [][]expr.Any{nft.Rule(nft.TCP(), nft.Reset()), nft.Reject(l.family)}},
			{Name: "drop", Rules: [][]expr.Any{nft.Drop()}},
		},
	}
}

// spread makes the chains for a number of endpoints: which to use, and that
// their number has been drawn.
func (l layout) spread(port bool, k int, affinity time.Duration) nft.Change {
	suffix := affinitySuffix(affinity)
	name := prefix(port, "n"+strconv.Itoa(k)+suffix)
	draw := nft.Set{
		Name: name, Key: []nftables.SetDatatype{nftables.TypeMark}, Data: []nftables.SetDatatype{nftables.TypeVerdict},
	}
	numbers := nft.Entries{Set: draw}
	for i := range k {
		numbers.Elements = append(numbers.Elements, nft.Element{
			Key: nft.Number(i), Chain: prefix(port, "e"+strconv.Itoa(i)+suffix),
		})
	}
	pick := nft.Chain{Name: name}
	if affinity > 0 {
		for i, n := range numbers.Elements {
			pick.Rules = append(pick.Rules, nft.Rule(nft.Client(l.family), nft.In(l.clients(i).Name), nft.Goto(n.Chain)))
		}
	}
	pick.Rules = append(pick.Rules, nft.Rule(nft.Random(k), nft.Dispatch(name)))
	return nft.Change{
		Sets: []nft.Set{draw},
		NewChains: []nft.Chain{pick, {
			Name:  prefix(port, "x"+strconv.Itoa(k)+suffix),
			Rules: [][]expr.Any{nft.Mark(masqueradeMark), nft.Goto(name)},
		}},
		Add: []nft.Entries{numbers},
	}
}

// endpoint makes the chain for the endpoint of an index and the map it uses.
func (l layout) endpoint(port bool, i int, affinity time.Duration) nft.Change {
	ep := l.ep(port, i)
	change := nft.Change{Sets: []nft.Set{ep}}
	chain := nft.Chain{Name: prefix(port, "e"+strconv.Itoa(i)+affinitySuffix(affinity))}
	if affinity > 0 {
		clients := l.clients(i)
		change.Sets = append(change.Sets, clients)
		chain.Rules = append(chain.Rules, nft.Rule(nft.Client(l.family), nft.Remember(clients.Name, affinity)))
	}
	chain.Rules = append(chain.Rules, nft.Rule(load(port, l.family), nft.DNAT(l.family, ep.Name)))
	change.NewChains = []nft.Chain{chain}
	return change
}

// indexOf reads the number in the name of an endpoint map, as in "port-ep3".
func indexOf(set string, port bool) (int, bool) {
	rest, ok := strings.CutPrefix(set, prefix(port, "ep"))
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(rest)
	return i, err == nil && i >= 0
}
