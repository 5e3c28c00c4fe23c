package pod

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/nft"
)

// applyRules puts the chains that translate sources, and those of host ports, into
// the node's table.
func (n *Network) applyRules(pools []*pool) error {
	for _, p := range pools {
		conn, err := nft.Open(tableFamily(p.prefix.Addr()), n.cfg.Host.Table)
		if err != nil {
			return err
		}
		change := n.hostPortRules(tableFamily(p.prefix.Addr()))
		change.NewChains = append(change.NewChains, n.chains(p)...)
		err = conn.Apply(change)
		conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func tableFamily(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}

// chains are this package's: what is marked gets a source of this node's (the
// one in the Pod range towards Pods, so that it works whatever addresses the
// machine has), and what Pods send out of the cluster gets the machine's. What
// comes from outside of the Pod range and goes to another node's Pods gets this
// node's address in the range, which the answer comes back to by the way the
// packet went. Between Pods nothing is translated.
//
// The mark goes before the source is translated: a packet keeps its mark when
// it is wrapped into another one, and the outer would be translated as well,
// with a wrong checksum.
func (n *Network) chains(p *pool) []nft.Chain {
	gw := p.gateway()
	clusters := sameFamily(n.cfg.ClusterCIDRs, gw)
	masquerade := nft.Chain{Name: "masquerade", Rules: [][]expr.Any{nft.Unmark(MasqueradeMark)}}
	post := nft.Chain{
		Name: "postrouting",
		Hook: &nft.Hook{Type: nftables.ChainTypeNAT, Hook: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource},
		Rules: [][]expr.Any{
			nft.Rule(nft.Marked(MasqueradeMark), nft.Goto("masquerade")),
		},
	}
	out := nft.From(p.prefix)
	var foreign []expr.Any
	for _, c := range clusters {
		masquerade.Rules = append(masquerade.Rules, nft.Rule(nft.To(c), nft.SNAT(gw)))
		out = append(out, nft.ToNot(c)...)
		foreign = append(foreign, nft.FromNot(c)...)
	}
	masquerade.Rules = append(masquerade.Rules, nft.Masquerade())
	out = append(out, nft.ToNot(multicast(gw))...)
	post.Rules = append(post.Rules, nft.Rule(out, nft.Masquerade()))
	for _, c := range clusters {
		if gw.Is4() {
			post.Rules = append(post.Rules, nft.Rule(nft.From(loopback), nft.To(c), nft.SNAT(gw)))
		}
		post.Rules = append(post.Rules, nft.Rule(foreign, nft.To(c), nft.ToNot(p.prefix), nft.SNAT(gw)))
	}
	return []nft.Chain{masquerade, post}
}

func multicast(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.MustParsePrefix("224.0.0.0/4")
	}
	return netip.MustParsePrefix("ff00::/8")
}

// Conflicts says which other tables' rules may drop what Pods send or get, and
// what to do about each. What another table drops, no rule of ours can let
// through.
func (n *Network) Conflicts() ([]string, error) {
	conn, err := nft.Open(nft.IPv4, n.cfg.Host.Table)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var out []string
	for _, f := range []nft.Family{nft.IPv4, nftables.TableFamilyINet} {
		chains, err := conn.ChainsOf(f)
		if err != nil {
			return nil, err
		}
		for _, c := range dropping(chains, n.cfg.Host.Table) {
			out = append(out, fmt.Sprintf("chain %s of nftables table %s drops forwarded packets unless a rule of its own accepts them: %s",
				c.Name, c.Table.Name, remedy(chains, c, n.cfg.ClusterCIDRs)))
		}
	}
	return out, nil
}

// dropping finds the base chains of others that drop what is forwarded.
func dropping(chains []*nftables.Chain, own string) []*nftables.Chain {
	var out []*nftables.Chain
	for _, c := range chains {
		if c.Table.Name != own && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward &&
			c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			out = append(out, c)
		}
	}
	return out
}

// remedy is what opens the chain for the Pods, by what the table's other
// chains tell of its owner.
func remedy(chains []*nftables.Chain, c *nftables.Chain, pods []netip.Prefix) string {
	has := func(name string) bool {
		for _, o := range chains {
			if o.Table.Name == c.Table.Name && o.Name == name {
				return true
			}
		}
		return false
	}
	cidr := "POD-CIDR"
	if len(pods) > 0 {
		cidr = pods[0].String()
	}
	switch {
	case has("ufw-user-forward"):
		return fmt.Sprintf("run 'ufw route allow from %s' and 'ufw route allow to %s'", cidr, cidr)
	case has("DOCKER-USER"):
		return fmt.Sprintf("run 'iptables -I DOCKER-USER -s %s -j ACCEPT' and 'iptables -I DOCKER-USER -d %s -j ACCEPT'", cidr, cidr)
	case c.Table.Name == "firewalld":
		return fmt.Sprintf("run 'firewall-cmd --permanent --zone=trusted --add-source=%s' and 'firewall-cmd --reload'", cidr)
	}
	return fmt.Sprintf("accept source and destination %s in it", cidr)
}

func (n *Network) warnOfConflicts() {
	found, err := n.Conflicts()
	if err != nil {
		n.cfg.Log.Warn("cannot look for firewalls that drop the Pods' packets", zap.Error(err))
	}
	for _, c := range found {
		n.cfg.Log.Warn("a firewall may drop the Pods' packets", zap.String("reason", c))
	}
}
