package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxAnswers = 4096 // about 2 MB
	// However long upstream allows, a node moves between networks: CoreDNS's
	// limits.
	maxTTL         = time.Hour
	maxNegativeTTL = 30 * time.Minute
)

// answers remembers what upstream said for as long as it allows, the most
// recently asked for first.
type answers struct {
	mu    sync.Mutex // guards what follows
	byQ   map[question]*list.Element
	order *list.List // of *remembered, most recent first
}

type remembered struct {
	q           question
	m           *dns.Msg // never changed
	since, till time.Time
}

func newAnswers() *answers { return &answers{byQ: map[question]*list.Element{}, order: list.New()} }

// get returns a copy with the times to live that are left, or nil.
func (a *answers) get(q question, now time.Time) *dns.Msg {
	r := a.find(q, now)
	if r == nil {
		return nil
	}
	m := r.m.Copy()
	age := uint32(now.Sub(r.since) / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(age, h.Ttl)
			}
		}
	}
	return m
}

func (a *answers) find(q question, now time.Time) *remembered {
	a.mu.Lock()
	defer a.mu.Unlock()
	el := a.byQ[q]
	if el == nil {
		return nil
	}
	r := el.Value.(*remembered)
	if !now.Before(r.till) {
		a.remove(el)
		return nil
	}
	a.order.MoveToFront(el)
	return r
}

// put remembers the message, which must not be changed any more, if it may be.
func (a *answers) put(q question, m *dns.Msg, now time.Time) {
	keep := lifetime(m)
	if keep <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if el := a.byQ[q]; el != nil {
		a.remove(el)
	}
	a.byQ[q] = a.order.PushFront(&remembered{q: q, m: m, since: now, till: now.Add(keep)})
	if a.order.Len() > maxAnswers {
		a.remove(a.order.Back())
	}
}

func (a *answers) remove(el *list.Element) {
	delete(a.byQ, el.Value.(*remembered).q)
	a.order.Remove(el)
}

// lifetime is how long an answer may be remembered (RFC 2308): the least of its
// records' times, and of a negative one what its SOA says. Failures and
// negative answers without SOA are not remembered.
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return 0
	}
	if m.Rcode == dns.RcodeNameError || !answersQuestion(m) {
		for _, rr := range m.Ns {
			if soa, is := rr.(*dns.SOA); is {
				return min(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, maxNegativeTTL)
			}
		}
		return 0
	}
	keep := maxTTL
	for _, rr := range m.Answer {
		keep = min(keep, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return keep
}

// answersQuestion says whether there is a record of the type asked for, not
// just a CNAME on the way to none.
func answersQuestion(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if t := rr.Header().Rrtype; t == m.Question[0].Qtype || m.Question[0].Qtype == dns.TypeANY {
			return true
		}
	}
	return false
}
