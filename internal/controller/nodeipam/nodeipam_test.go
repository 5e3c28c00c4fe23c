package nodeipam

import (
	"net/netip"
	"strings"
	"testing"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func TestAllocate(t *testing.T) {
	for _, c := range []struct {
		name          string
		ranges, taken []netip.Prefix
		want          string
	}{
		{"first", prefixes("10.42.0.0/16"), nil, "10.42.0.0/24"},
		{"second", prefixes("10.42.0.0/16"), prefixes("10.42.0.0/24"), "10.42.1.0/24"},
		{"hole", prefixes("10.42.0.0/16"), prefixes("10.42.0.0/24", "10.42.2.0/24"), "10.42.1.0/24"},
		{"larger one in the way", prefixes("10.42.0.0/16"), prefixes("10.42.0.0/20"), "10.42.16.0/24"},
		{"smaller one in the way", prefixes("10.42.0.0/16"), prefixes("10.42.0.128/25"), "10.42.1.0/24"},
		{"small cluster", prefixes("10.42.0.0/25"), nil, "10.42.0.0/25"},
		{"full", prefixes("10.42.0.0/24"), prefixes("10.42.0.0/24"), "error"},
		{"taken in any order", prefixes("10.42.0.0/16"), prefixes("10.42.1.0/24", "10.42.0.0/24"), "10.42.2.0/24"},
		{"one within another", prefixes("10.42.0.0/16"), prefixes("10.42.0.0/16", "10.42.0.0/24"), "error"},
		{"both families", prefixes("10.42.0.0/16", "fd00:42::/56"), prefixes("10.42.0.0/24", "fd00:42::/64"), "10.42.1.0/24,fd00:42:0:1::/64"},
		{"end of all addresses", prefixes("255.255.255.0/24"), prefixes("255.255.255.0/24"), "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := allocate(c.ranges, c.taken)
			text := strings.Join(got, ",")
			if err != nil {
				text = "error"
			}
			if text != c.want {
				t.Errorf("got %s (%v), want %s", text, err, c.want)
			}
		})
	}
}
