package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// forwardTimeout is what a client waits before it asks again (resolv.conf(5)).
	forwardTimeout = 5 * time.Second
	// maxInFlight bounds how many questions are upstream at a time, CoreDNS's
	// recommendation: each takes a socket and some 2 KB.
	maxInFlight = 1000
)

// forwarder asks the machine's resolvers and remembers what they said. The same
// question of many clients is asked once at a time.
type forwarder struct {
	upstreams *upstreams
	cache     *answers
	flights   singleflight.Group
	slots     chan struct{}
	log       *zap.Logger
}

func newForwarder(cfg Config) *forwarder {
	return &forwarder{
		upstreams: &upstreams{path: cfg.ResolvConf, own: cfg.Addresses, port: 53},
		cache:     newAnswers(),
		slots:     make(chan struct{}, maxInFlight),
		log:       cfg.Log,
	}
}

// question is what answers are remembered by.
type question struct {
	name            string
	qtype           uint16
	dnssec, noCheck bool
}

func questionOf(req *dns.Msg) question {
	q := question{name: strings.ToLower(req.Question[0].Name), qtype: req.Question[0].Qtype, noCheck: req.CheckingDisabled}
	if opt := req.IsEdns0(); opt != nil {
		q.dnssec = opt.Do()
	}
	return q
}

// answer returns what is remembered or what upstream says; a failure if nobody
// answers. The message is the caller's.
func (f *forwarder) answer(ctx context.Context, req *dns.Msg) *dns.Msg {
	q := questionOf(req)
	if m := f.cache.get(q, time.Now()); m != nil {
		return m
	}
	key := fmt.Sprint(q)
	got := f.flights.DoChan(key, func() (any, error) {
		// Its own time: the first of many who ask must not end it for all.
		ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
		defer cancel()
		m, err := f.ask(ctx, q)
		if err != nil {
			return nil, err
		}
		f.cache.put(q, m, time.Now())
		return m, nil
	})
	select {
	case r := <-got:
		if r.Err == nil {
			return r.Val.(*dns.Msg).Copy()
		}
		f.log.Debug("no upstream DNS server answered", zap.String("name", q.name), zap.Error(r.Err))
	case <-ctx.Done():
	}
	m := new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	return m
}

// ask asks one upstream after the other.
func (f *forwarder) ask(ctx context.Context, q question) (*dns.Msg, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, fmt.Errorf("%d questions are upstream already", maxInFlight)
	}
	servers := f.upstreams.list(time.Now())
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no DNS server to ask", f.upstreams.path)
	}
	var errs []error
	var failure *dns.Msg
	for _, s := range servers {
		m, err := exchange(ctx, s, q, f.upstreams.patience(s, time.Now()))
		if err != nil {
			f.upstreams.silent(s, time.Now())
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
			continue
		}
		f.upstreams.answered(s)
		if m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused {
			failure = m // another one may know better
			continue
		}
		return m, nil
	}
	if failure != nil {
		return failure, nil
	}
	return nil, errors.Join(errs...)
}

// exchange asks one server, by TCP if the answer does not fit a datagram.
func exchange(ctx context.Context, server netip.AddrPort, q question, timeout time.Duration) (*dns.Msg, error) {
	req := new(dns.Msg).SetQuestion(q.name, q.qtype)
	req.CheckingDisabled = q.noCheck
	req.SetEdns0(maxUDP, q.dnssec)
	for network := "udp"; ; network = "tcp" {
		c := dns.Client{Net: network, Timeout: timeout, UDPSize: maxUDP}
		m, _, err := c.ExchangeContext(ctx, req, server.String())
		if err != nil {
			return nil, err
		}
		if len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.name) || m.Question[0].Qtype != q.qtype {
			return nil, errors.New("the answer is to another question")
		}
		if !m.Truncated || network == "tcp" {
			return m, nil
		}
	}
}
