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
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// The prefix lengths of a Node's ranges, as upstream's: 254 Pods in IPv4.
const (
	nodeBits  = 24
	nodeBits6 = 64
)

// New returns the controller over the cluster's Pod ranges.
func New(env controller.Environment, ranges []netip.Prefix) controller.Runner {
	a := &allocator{
		env: env, ranges: ranges, events: env.API.NewRecorder("cidrAllocator", controller.User("node-controller")),
		giving: map[string][]netip.Prefix{},
	}
	return controller.Controller[types.NamespacedName]{
		Name:      "node-ipam-controller",
		Sources:   []controller.Source[types.NamespacedName]{controller.Own(kind.Node)},
		Workers:   16, // what takes long is waiting for the disk
		Reconcile: a.reconcile,
	}
}

// allocator is the controller.
type allocator struct {
	env    controller.Environment
	ranges []netip.Prefix
	events *api.Recorder

	mu     sync.Mutex
	giving map[string][]netip.Prefix // by node: what is being written, and so is taken
}

func (a *allocator) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	node, ok := state.Get[*corev1.Node](a.env.State, kind.Node, "", key.Name)
	if !ok || len(node.Spec.PodCIDRs) > 0 {
		return 0, nil
	}
	given, err := a.take(key.Name)
	if err != nil {
		a.events.Event(ctx, kind.Node, node, corev1.EventTypeNormal, "CIDRNotAvailable",
			"Node %s status is now: CIDRNotAvailable", node.Name)
		return 0, err
	}
	defer a.leave(key.Name)
	_, err = a.env.API.Modify(ctx, api.Request{
		User: controller.User("node-controller"), FieldManager: controller.FieldManager, Kind: kind.Node, Name: key.Name,
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
}

// take chooses ranges for a node, which are nobody else's until leave.
func (a *allocator) take(node string) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := taken(a.env.State)
	for _, ranges := range a.giving {
		all = append(all, ranges...)
	}
	given, err := allocate(a.ranges, all)
	if err != nil {
		return nil, err
	}
	for _, p := range given {
		a.giving[node] = append(a.giving[node], netip.MustParsePrefix(p))
	}
	return given, nil
}

// leave says that a node has its ranges or will not have them: the state shows by
// now which.
func (a *allocator) leave(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.giving, node)
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
	bits := nodeBits
	if r.Addr().Is6() {
		bits = nodeBits6
	}
	candidate := netip.PrefixFrom(r.Masked().Addr(), max(bits, r.Bits()))
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b netip.Prefix) int { return a.Masked().Addr().Compare(b.Masked().Addr()) })
	for _, t := range taken {
		if !candidate.IsValid() || !r.Contains(candidate.Addr()) {
			break
		}
		if t.Overlaps(candidate) {
			candidate = after(candidate, t)
		}
	}
	if !candidate.IsValid() || !r.Contains(candidate.Addr()) {
		return netip.Prefix{}, fmt.Errorf("no range is left in %s for another node: give the cluster a larger --cluster-cidr", r)
	}
	return candidate, nil
}

// after returns the first prefix of p's length that lies behind clash and p;
// the zero Prefix when there are no addresses behind.
func after(p, clash netip.Prefix) netip.Prefix {
	larger := p.Masked()
	if clash.Bits() < p.Bits() {
		larger = clash.Masked()
	}
	if larger.Bits() == 0 {
		return netip.Prefix{}
	}
	b := larger.Addr().AsSlice()
	carry := 1 << ((8 - larger.Bits()%8) % 8)
	for i := (larger.Bits() - 1) / 8; i >= 0 && carry > 0; i-- {
		sum := int(b[i]) + carry
		b[i], carry = byte(sum), sum>>8
	}
	next, _ := netip.AddrFromSlice(b)
	if carry > 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(next, p.Bits())
}
