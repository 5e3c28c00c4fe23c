// Package dns answers names on every node, in-process, at the cluster's DNS
// address: Services, endpoints and Pods by Kubernetes' DNS specification 1.1,
// everything else by asking the machine's own resolvers.
//
// Server listens; zone decides what the cluster's names mean, from the shared
// informers' caches, of which it keeps no copy; forwarder asks upstream and
// keeps a bounded cache. Where the specification leaves room, answers are those
// of CoreDNS with its usual configuration. It needs no Pod, and it never
// recurses itself.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"

	"github.com/skiff-sh/skiff/internal/config"
)

const (
	// patience is how long a question about the cluster waits for the caches
	// to fill before it is answered with a failure.
	patience = 2 * time.Second
	// farewell is how long questions being answered may hold up the end.
	farewell = 300 * time.Millisecond
	// maxUDP is what an answer may take without being fragmented on the way,
	// whatever the client would accept (DNS flag day 2020).
	maxUDP = 1232
	// maxAnswering bounds how many questions wait for their answer at a time,
	// some 10 KB each: one Pod must not take the machine's memory by asking
	// fast what upstream answers slowly.
	maxAnswering = 4096
)

// Config is what a node's DNS is made from.
type Config struct {
	Informers     informers.SharedInformerFactory
	Host          config.Host
	ClusterDomain string         // without dots at its ends: "cluster.local"
	Addresses     []netip.Addr   // to answer at; put on the loopback
	Ranges        []netip.Prefix // of Pods and Services: unknown addresses in them do not exist
	ResolvConf    string         // names the upstreams; /etc/resolv.conf if empty
	Port          uint16         // 53 if zero
	Log           *zap.Logger
}

// Server answers questions at the node's DNS addresses.
type Server struct {
	cfg     Config
	zone    *zone
	forward *forwarder
	turns   chan struct{} // of the questions being answered
}

// New prepares a Server. It must be called before the informers are started,
// which is the caller's part.
func New(cfg Config) (*Server, error) {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("start DNS: no address to answer at; see --cluster-dns")
	}
	z, err := newZone(cfg)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, zone: z, forward: newForwarder(cfg), turns: make(chan struct{}, maxAnswering)}, nil
}

// Run answers until the context ends. The addresses stay on the loopback:
// Cleanup removes them.
func (s *Server) Run(ctx context.Context) error {
	servers, err := s.listen()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, srv := range servers {
		group.Go(func() error {
			if err := srv.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("answer DNS: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		for _, srv := range servers {
			_ = srv.ShutdownContext(last)
			closeSocket(srv) // Shutdown does nothing for one that does not serve yet
		}
		return nil
	})
	return group.Wait()
}

func (s *Server) listen() (servers []*dns.Server, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, srv := range servers {
			closeSocket(srv)
		}
	}()
	for _, a := range s.cfg.Addresses {
		if err := addAddress(s.cfg.Host, a); err != nil {
			return servers, err
		}
		at := netip.AddrPortFrom(a, s.cfg.Port).String()
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return servers, listenError(at, err)
		}
		servers = append(servers, &dns.Server{PacketConn: pc, Handler: s, UDPSize: 4096})
		l, err := net.Listen("tcp", at)
		if err != nil {
			return servers, listenError(at, err)
		}
		servers = append(servers, &dns.Server{Listener: l, Handler: s})
	}
	return servers, nil
}

func closeSocket(srv *dns.Server) {
	if srv.PacketConn != nil {
		_ = srv.PacketConn.Close()
	} else {
		_ = srv.Listener.Close()
	}
}

func listenError(at string, err error) error {
	return fmt.Errorf("answer DNS at %s: %w; another DNS server that listens on all addresses must be bound to its own", at, err)
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("panic while answering DNS", zap.Any("panic", r), zap.Stack("stack"))
			_ = w.WriteMsg(new(dns.Msg).SetRcode(req, dns.RcodeServerFailure))
		}
	}()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	default:
		_ = w.WriteMsg(new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)) // who does not listen asks again
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
	defer cancel()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	resp := fit(req, s.answer(ctx, req), tcp)
	if err := w.WriteMsg(resp); err != nil {
		s.cfg.Log.Debug("client did not take the DNS answer", zap.Error(err))
	}
}

// answer finds what to say, from the cluster or from upstream.
func (s *Server) answer(ctx context.Context, req *dns.Msg) *dns.Msg {
	q := req.Question[0]
	if q.Qclass != dns.ClassINET {
		return new(dns.Msg).SetRcode(req, dns.RcodeRefused)
	}
	name := strings.ToLower(q.Name)
	mine, err := s.zone.owns(ctx, name)
	if err != nil {
		return new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
	}
	if !mine {
		return s.forward.answer(ctx, req)
	}
	resp := new(dns.Msg).SetReply(req)
	resp.Authoritative, resp.RecursionAvailable = true, true
	s.zone.answer(resp, name, q.Qtype)
	s.chase(ctx, req, resp)
	return resp
}

// chase adds what the target of an ExternalName's CNAME means to an answer
// about addresses.
func (s *Server) chase(ctx context.Context, req, resp *dns.Msg) {
	q := req.Question[0]
	if len(resp.Answer) != 1 || (q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA) {
		return
	}
	cname, is := resp.Answer[0].(*dns.CNAME)
	if !is {
		return
	}
	if ctx.Value(chasing{}) != nil {
		return // an ExternalName of an ExternalName: the client goes on itself
	}
	next := req.Copy()
	next.Question[0].Name = cname.Target
	found := s.answer(context.WithValue(ctx, chasing{}, true), next)
	resp.Answer = append(resp.Answer, found.Answer...)
	if found.Rcode == dns.RcodeServerFailure {
		resp.Rcode = found.Rcode
	}
}

type chasing struct{}

// fit makes the answer one that the client can take.
func fit(req, resp *dns.Msg, tcp bool) *dns.Msg {
	resp.Id = req.Id
	resp.Question = req.Question
	size := dns.MinMsgSize
	kept := resp.Extra[:0]
	for _, rr := range resp.Extra {
		if _, is := rr.(*dns.OPT); !is { // upstream's is about upstream
			kept = append(kept, rr)
		}
	}
	resp.Extra = kept
	if opt := req.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		resp.SetEdns0(maxUDP, opt.Do())
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	resp.Compress = true
	resp.Truncate(size)
	return resp
}
