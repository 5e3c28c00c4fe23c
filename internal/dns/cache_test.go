package dns

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func message(t *testing.T, rcode int, answer, authority []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	m.Rcode = rcode
	parse := func(ss []string) (out []dns.RR) {
		for _, s := range ss {
			rr, err := dns.NewRR(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, rr)
		}
		return out
	}
	m.Answer, m.Ns = parse(answer), parse(authority)
	return m
}

func TestLifetime(t *testing.T) {
	soa := []string{"example. 600 IN SOA ns. root. 1 1 1 1 60"}
	for _, tc := range []struct {
		name              string
		rcode             int
		answer, authority []string
		want              time.Duration
	}{
		{"the least of the records'", 0, []string{"a.example. 30 IN CNAME b.example.", "b.example. 20 IN A 192.0.2.1"}, nil, 20 * time.Second},
		{"at most an hour", 0, []string{"a.example. 999999 IN A 192.0.2.1"}, nil, time.Hour},
		{"zero is zero", 0, []string{"a.example. 0 IN A 192.0.2.1"}, nil, 0},
		{"no such name", dns.RcodeNameError, nil, soa, time.Minute},
		{"no such type", 0, nil, soa, time.Minute},
		{"no such type behind a CNAME", 0, []string{"a.example. 3000 IN CNAME b.example."}, soa, time.Minute},
		{"negative without SOA", dns.RcodeNameError, nil, nil, 0},
		{"failure", dns.RcodeServerFailure, nil, soa, 0},
	} {
		if got := lifetime(message(t, tc.rcode, tc.answer, tc.authority)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestCacheAgesAndForgets(t *testing.T) {
	a := newAnswers()
	now := time.Now()
	q := question{name: "a.example.", qtype: dns.TypeA}
	a.put(q, message(t, 0, []string{"a.example. 30 IN A 192.0.2.1"}, nil), now)
	m := a.get(q, now.Add(10*time.Second))
	if m == nil || m.Answer[0].Header().Ttl != 20 {
		t.Fatalf("after 10 s: %v", m)
	}
	m.Answer = nil // the copy is ours
	if m = a.get(q, now.Add(29*time.Second)); m == nil || m.Answer[0].Header().Ttl != 1 {
		t.Errorf("after 29 s: %v", m)
	}
	if m = a.get(q, now.Add(30*time.Second)); m != nil || a.order.Len() != 0 {
		t.Errorf("after its time: %v, %d kept", m, a.order.Len())
	}
}

func TestCacheIsBounded(t *testing.T) {
	a := newAnswers()
	now := time.Now()
	m := message(t, 0, []string{"a.example. 30 IN A 192.0.2.1"}, nil)
	first := question{name: "first."}
	a.put(first, m, now)
	for i := range maxAnswers - 1 {
		a.put(question{name: fmt.Sprint(i)}, m, now)
	}
	a.get(first, now) // asked for again: it stays
	a.put(question{name: "one more"}, m, now)
	if a.order.Len() != maxAnswers || len(a.byQ) != maxAnswers {
		t.Errorf("%d kept", a.order.Len())
	}
	if a.get(first, now) == nil {
		t.Error("what was asked for last was forgotten")
	}
	if a.get(question{name: "0"}, now) != nil {
		t.Error("the oldest was kept")
	}
}
