// Package nodeipam gives each Node its range of Pod addresses.
//
// New returns the controller; allocate is the plan. The invariant: no two Nodes
// have overlapping ranges, and a range once given stays. It never frees a
// range while its Node exists.
package nodeipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// nodeBits is the prefix length of a Node's IPv4 range: 254 Pods.
const nodeBits = 24

// New returns the controller over the cluster's Pod ranges.
func New(env controller.Environment, ranges []netip.Prefix) controller.Runner {
	return controller.Controller[types.NamespacedName]{
		Name:    "node-ipam-controller",
		Sources: []controller.Source[types.NamespacedName]{controller.Own(kind.Node)},
		Workers: 1, // two at once could give two Nodes one range
		Reconcile: func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
			node, ok := state.Get[*corev1.Node](env.State, kind.Node, "", key.Name)
			if !ok || len(node.Spec.PodCIDRs) > 0 {
				return 0, nil
			}
			given, err := allocate(ranges, taken(env.State))
			if err != nil {
				return 0, err
			}
			_, err = env.API.Modify(ctx, api.Request{
				User: controller.User("node-controller"), FieldManager: "skiff", Kind: kind.Node, Name: key.Name,
			}, func(obj kind.Object) error {
				node := obj.(*corev1.Node)
				if len(node.Spec.PodCIDRs) > 0 {
					return nil
				}
				node.Spec.PodCIDRs = given
				node.Spec.PodCIDR = given[0]
				return nil
			})
			return 0, err
		},
	}
}

func taken(s *state.State) []netip.Prefix {
	var all []netip.Prefix
	for _, node := range state.List[*corev1.Node](s, kind.Node, state.Interest{}) {
		for _, text := range node.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// allocate returns the first free range of each of the cluster's ranges.
func allocate(ranges, taken []netip.Prefix) ([]string, error) {
	var given []string
	for _, r := range ranges {
		p, err := firstFree(r, taken)
		if err != nil {
			return nil, err
		}
		given = append(given, p.String())
	}
	return given, nil
}

func firstFree(r netip.Prefix, taken []netip.Prefix) (netip.Prefix, error) {
	candidate := netip.PrefixFrom(r.Masked().Addr(), max(nodeBits, r.Bits()))
	for r.Contains(candidate.Addr()) {
		clash, ok := overlapping(candidate, taken)
		if !ok {
			return candidate, nil
		}
		candidate = after(candidate, clash)
		if !candidate.IsValid() {
			break
		}
	}
	return netip.Prefix{}, fmt.Errorf("no range is left in %s for another node: give the cluster a larger --cluster-cidr", r)
}

func overlapping(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Overlaps(p) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// after returns the first prefix of p's length that lies behind clash and p.
func after(p, clash netip.Prefix) netip.Prefix {
	larger := p
	if clash.Bits() < p.Bits() {
		larger = clash.Masked()
	}
	b := larger.Addr().As4()
	first := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	first += 1 << (32 - larger.Bits())
	if first > 1<<32-1 {
		return netip.Prefix{}
	}
	next := netip.AddrFrom4([4]byte{byte(first >> 24), byte(first >> 16), byte(first >> 8), byte(first)})
	return netip.PrefixFrom(next, p.Bits())
}
