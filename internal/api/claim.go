package api

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

// The allocation tables. An entry's owner is "namespace/name" of the Service.
const (
	tableClusterIPs = "clusterips"
	tableNodePorts  = "nodeports"
)

var (
	errFull           = errors.New("range is full")
	errAddressClaimed = errors.New("provided IP is already allocated")
	// Upstream says so of an address that no range of the cluster has.
	errAddressElsewhere = errors.New("the provided network does not match the current range")
	errPortClaimed      = errors.New("provided port is already allocated")
)

// claims collects what a Service takes and gives back, to be committed with it.
// What another commit takes meanwhile makes that commit fail, and the whole
// allocation starts again.
type claims struct {
	state *state.State
	owner string
	held  map[state.Claim]bool // by the old object
	wants map[state.Claim]bool // by the new one
	// dry is for a dry run, which is given names that say so: upstream's.
	dry bool
}

func (a *API) newClaims(svc, old *corev1.Service) *claims {
	c := &claims{state: a.state, owner: listKey(svc), held: map[state.Claim]bool{}, wants: map[state.Claim]bool{}}
	if old != nil {
		c.held = heldBy(old)
	}
	return c
}

// heldBy returns the names that a stored Service owns.
func heldBy(svc *corev1.Service) map[state.Claim]bool {
	held := map[state.Claim]bool{}
	if hasAddress(svc) {
		for _, ip := range svc.Spec.ClusterIPs {
			held[state.Claim{Table: tableClusterIPs, Name: ip}] = true
		}
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 && needsPorts(svc) {
			held[portClaim(p.NodePort)] = true
		}
	}
	if svc.Spec.HealthCheckNodePort != 0 && needsHealthPort(svc) {
		held[portClaim(svc.Spec.HealthCheckNodePort)] = true
	}
	return held
}

// take claims a name that was asked for, which nobody must have, this Service
// included.
func (c *claims) take(claim state.Claim) bool {
	if _, taken := c.state.Claimed(claim.Table, claim.Name); taken || c.wants[claim] {
		return false
	}
	c.wants[claim] = true
	return true
}

// nextPort is the port that a dry run is given: the one behind the last that it
// claimed so far.
func (c *claims) nextPort() int32 {
	var claimed []int
	for claim := range c.wants {
		if n, err := strconv.Atoi(claim.Name); err == nil && claim.Table == tableNodePorts && !c.held[claim] {
			claimed = append(claimed, n)
		}
	}
	if len(claimed) == 0 {
		return 32769 // upstream's first
	}
	return int32(max(0, slices.Max(claimed))) + 1
}

// pick claims any free name. Numbers below offset are kept for those who ask
// for a certain one as long as there are others (KEP-3070, KEP-3668). It starts
// at random, so that a name just freed is not used again at once and concurrent
// callers seldom meet.
func (c *claims) pick(size, offset uint64, name func(uint64) state.Claim) (uint64, error) {
	if n, ok := c.scan(offset, size, name); ok {
		return n, nil
	}
	if n, ok := c.scan(0, offset, name); ok {
		return n, nil
	}
	return 0, errFull
}

func (c *claims) scan(from, to uint64, name func(uint64) state.Claim) (uint64, bool) {
	if from >= to {
		return 0, false
	}
	width := to - from
	start := rand.Uint64N(width)
	for i := range width {
		n := from + (start+i)%width
		claim := name(n)
		if c.take(claim) {
			return n, true
		}
	}
	return 0, false
}

// writes returns what makes the claims true; none for a kind without.
func (c *claims) writes() []state.Write {
	if c == nil {
		return nil
	}
	var writes []state.Write
	for claim := range c.wants {
		if !c.held[claim] {
			claim.Owner = c.owner
			writes = append(writes, state.Write{Action: store.Put, Claim: claim, Expect: store.Absent})
		}
	}
	for claim := range c.held {
		if !c.wants[claim] {
			if owner, ok := c.state.Claimed(claim.Table, claim.Name); ok && owner == c.owner {
				writes = append(writes, state.Write{Action: store.Delete, Claim: claim, Expect: store.Any})
			}
		}
	}
	return writes
}

// release returns the writes that free all an object holds.
func (a *API) release(obj kind.Object) []state.Write {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil
	}
	c := a.newClaims(svc, svc)
	return c.writes()
}
