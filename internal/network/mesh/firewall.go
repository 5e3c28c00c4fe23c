package mesh

import (
	"fmt"

	"github.com/google/nftables"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/nft"
)

// conflicts says which firewalls of this machine may keep other nodes' packets
// out, and what to do about each. What another table drops, no rule of ours can
// let in.
func conflicts(h config.Host) ([]string, error) {
	conn, err := nft.Open(nft.IPv4, h.Table)
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
		for _, c := range chains {
			if c.Table.Name != h.Table && refuses(c) {
				out = append(out, fmt.Sprintf("chain %s of nftables table %s takes only what its rules allow: %s",
					c.Name, c.Table.Name, opening(chains, c)))
			}
		}
	}
	return out, nil
}

// refuses says whether what is meant for the machine comes in only by a rule of
// the chain. firewalld's ends with a rule, not with a policy.
func refuses(c *nftables.Chain) bool {
	if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookInput || c.Type != nftables.ChainTypeFilter {
		return false
	}
	return c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop || c.Table.Name == "firewalld"
}

// opening is what lets VXLAN in, by what the table's other chains tell of its
// owner.
func opening(chains []*nftables.Chain, c *nftables.Chain) string {
	for _, o := range chains {
		if o.Table.Name == c.Table.Name && o.Name == "ufw-user-input" {
			return fmt.Sprintf("run 'ufw allow %d/udp'", vxlanPort)
		}
	}
	if c.Table.Name == "firewalld" {
		return fmt.Sprintf("run 'firewall-cmd --permanent --add-port=%d/udp' and 'firewall-cmd --reload'", vxlanPort)
	}
	return fmt.Sprintf("accept UDP port %d and ICMP echo requests in it", vxlanPort)
}
