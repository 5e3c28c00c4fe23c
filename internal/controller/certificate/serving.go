package certificate

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const localhost = "localhost"

// decideServing: a node serves as itself and nobody else.
func (q question) decideServing() decision {
	if !q.itself() {
		return decision{}
	}
	if q.outdated() {
		return q.denyOutdated()
	}
	own, unknown := 0, false
	for _, n := range namesOf(q.parsed) {
		switch fit, message := q.fit(n); fit {
		case foreign:
			return denied(reasonNotItsAddress, "%s", message)
		case unlisted:
			unknown = true
		case its:
			own++
		}
	}
	switch {
	case unknown:
		return decision{} // until its Node lists it, or to a person
	case own == 0:
		return denied(reasonNotItsAddress, "the certificate would be for this machine's loopback alone: ask for the node's name or one of its addresses too")
	}
	return approved("Auto approving kubelet serving certificate: its names are the node's own.")
}

// subject is one name that a certificate is to be good for: an address or, where
// that is not valid, a DNS name in lower case.
type subject struct {
	address netip.Addr
	name    string
}

// namesOf returns all subjects of a request. A DNS name that reads as an address
// is one: there are clients that take it for one.
func namesOf(parsed *x509.CertificateRequest) []subject {
	var all []subject
	for _, text := range parsed.DNSNames {
		all = append(all, subjectOf(text))
	}
	for _, ip := range parsed.IPAddresses {
		address, _ := netip.AddrFromSlice(ip)
		all = append(all, subject{address: address.Unmap(), name: ip.String()})
	}
	return all
}

func subjectOf(text string) subject {
	if address, err := netip.ParseAddr(text); err == nil {
		return subject{address: address.Unmap(), name: text}
	}
	return subject{name: strings.ToLower(text)}
}

// fit says whose a subject is.
type fit uint8

const (
	foreign  fit = iota // somebody else's, or nobody's
	unlisted            // nobody's yet
	local               // the loopback of every machine
	its                 // the node's
)

// fit says whose a subject is, and if it is not the node's, why.
func (q question) fit(s subject) (fit, string) {
	if s.address.IsValid() {
		if s.address.IsLoopback() {
			return local, ""
		}
		if message := q.foreignAddress(s.address); message != "" {
			return foreign, message
		}
		if q.node == nil || lists(q.node, s) {
			return its, ""
		}
		return unlisted, ""
	}
	if s.name == localhost {
		return local, ""
	}
	if message := q.foreignName(s.name); message != "" {
		return foreign, message
	}
	if s.name == q.name { // whatever others say of themselves
		return its, ""
	}
	if message := q.foreignTo(s); message != "" {
		return foreign, message
	}
	return unlisted, "" // and if it were listed: it may become another node's
}

// foreignAddress says why an address cannot be the node's.
func (q question) foreignAddress(a netip.Addr) string {
	switch {
	case !a.IsGlobalUnicast() || a.Zone() != "":
		return a.String() + " is not the address of one machine: leave it out"
	case slices.ContainsFunc(q.Ranges, func(p netip.Prefix) bool { return p.Contains(a) }):
		return a.String() + " is in the cluster's range of Pods or Services: choose the node's address with --node-ip"
	case q.api.VerifyHostname(a.String()) == nil:
		return a.String() + " is the API server's address: choose the node's with --node-ip"
	}
	return q.foreignTo(subject{address: a, name: a.String()})
}

// foreignName says why a DNS name can be no node's.
func (q question) foreignName(name string) string {
	switch {
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return fmt.Sprintf("%q is not the name of one machine: leave it out", name)
	case q.reservedName(name):
		return fmt.Sprintf("%q is a name of the API server or of the cluster's DNS: choose the node's with --node-name", name)
	}
	return ""
}

// reservedName says whether the API server or the cluster's DNS goes by a name.
func (q question) reservedName(name string) bool {
	for _, domain := range []string{"svc", q.Domain} {
		if domain != "" && (name == domain || strings.HasSuffix(name, "."+domain)) {
			return true
		}
	}
	return name == localhost || q.api.VerifyHostname(name) == nil // it may have wildcards
}

// foreignTo says which other Node has a subject.
func (q question) foreignTo(s subject) string {
	for _, other := range q.nodes {
		if other.Name != q.name && (other.Name == s.name || lists(other, s)) {
			return fmt.Sprintf("%q is node %s's: give this node another with --node-ip or --node-name, or, if that node is gone, run \"kubectl delete node %s\"",
				s.name, other.Name, other.Name)
		}
	}
	return ""
}

// lists says whether a Node has a subject among its addresses.
func lists(node *corev1.Node, s subject) bool {
	return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
		listed := subjectOf(a.Address)
		if s.address.IsValid() {
			return listed.address == s.address
		}
		return !listed.address.IsValid() && listed.name == s.name
	})
}
