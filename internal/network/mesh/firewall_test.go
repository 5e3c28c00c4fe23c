package mesh

import (
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestConflicts(t *testing.T) {
	for _, tc := range []struct{ what, rules, want string }{
		{"nothing", "", ""},
		{"a policy that accepts", "add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy accept; }", ""},
		{"forwarding only", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }", ""},
		{"ufw", "add table ip filter; add chain ip filter ufw-user-input; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }", "ufw allow 8472/udp"},
		{"firewalld", "add table inet firewalld; add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }", "firewall-cmd --permanent --add-port=8472/udp"},
		{"one's own", "add table inet strict; add chain inet strict in { type filter hook input priority 0; policy drop; }", "accept UDP port 8472"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			ns := netnstest.Namespace(t)
			if tc.rules != "" {
				sh(t, ns, "nft '"+tc.rules+"'")
			}
			var got []string
			netnstest.In(t, ns, func() (err error) { got, err = conflicts(config.NewHost("/x")); return err })
			if all := strings.Join(got, " "); !strings.Contains(all, tc.want) || (tc.want == "") != (all == "") {
				t.Errorf("%q, want %q", all, tc.want)
			}
		})
	}
}
