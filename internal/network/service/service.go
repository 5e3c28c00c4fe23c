// Package service makes Services work on a node: what is sent to a Service's
// address, or to a node port, goes to one of its endpoints.
//
// Plan is the decision, pure: a Service and its EndpointSlices in, Frontends
// out. A mirror compares them with what the kernel has and yields the elements
// to change. Service runs the two: events mark Services dirty, and everything
// that is dirty goes into one nftables transaction. Services are data in maps,
// see layout; connections that exist are never touched, except UDP ones to an
// endpoint that is gone. Nothing is polled, and no object is copied: plans read
// the shared informers' caches.
package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/nft"
)

// byService is the index of EndpointSlices by namespace/name of the Service.
const byService = "network/service"

// Config is what a node's Services are made from.
type Config struct {
	Informers    informers.SharedInformerFactory
	NodeName     string
	Host         config.Host
	ServiceCIDRs []netip.Prefix // what is sent there and no Service takes is rejected
	DNS          []netip.Addr   // answered on the node: no rules for them
	Log          *zap.Logger
}

// Service keeps the node's nftables table in step with the cluster's Services.
type Service struct {
	cfg      Config
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	synced   chan struct{}
	wake     chan struct{}

	mu    sync.Mutex // guards dirty
	dirty map[string]struct{}

	// What follows belongs to Run.
	planes []*plane
	owner  map[Key]string              // who has a frontend
	owned  map[string][]Key            // the frontends of a Service
	wait   map[Key]map[string]struct{} // who would have it if the owner went
}

// plane is the table of one address family.
type plane struct {
	scope Scope
	conn  *nft.Conn
	m     *mirror
	edit  *edit
}

// New prepares a Service. It must be called before the informers are started,
// which is the caller's part.
func New(cfg Config) (*Service, error) {
	s := &Service{
		cfg:      cfg,
		services: cfg.Informers.Core().V1().Services().Informer(),
		slices:   cfg.Informers.Discovery().V1().EndpointSlices().Informer(),
		synced:   make(chan struct{}),
		wake:     make(chan struct{}, 1),
		dirty:    map[string]struct{}{},
	}
	err := s.slices.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		return []string{sliceOwner(obj)}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices by Service: %w", err)
	}
	return s, nil
}

// Synced is closed when the Services that exist at the start are in place.
func (s *Service) Synced() <-chan struct{} { return s.synced }

// Run keeps the table in step until the context ends. What a former process
// left is adopted and repaired. The table stays when Run ends.
func (s *Service) Run(ctx context.Context) error {
	for _, f := range families(s.cfg.ServiceCIDRs) {
		conn, err := nft.Open(f, s.cfg.Host.Table)
		if err != nil {
			return err
		}
		defer conn.Close()
		s.planes = append(s.planes, &plane{
			conn: conn, scope: Scope{Node: s.cfg.NodeName, IPv6: f == nft.IPv6, Exempt: s.cfg.DNS},
		})
	}
	stop, err := s.listen(ctx)
	defer stop()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := s.rebuild(); err != nil {
		return fmt.Errorf("put Services into nftables: %w", err)
	}
	close(s.synced)
	lost := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return nft.Watch(ctx, s.cfg.Host.Table, func() {
			select {
			case lost <- struct{}{}:
			default:
			}
		})
	})
	group.Go(func() error { return s.follow(ctx, lost) })
	return group.Wait()
}

// follow applies what changes until the context ends, and everything anew when
// the table was lost.
func (s *Service) follow(ctx context.Context, lost <-chan struct{}) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			err = errLost
		case <-s.wake:
			err = s.sync(s.takeDirty())
		}
		if err == nil {
			continue
		}
		s.cfg.Log.Warn("writing all Services to nftables anew", zap.Error(err))
		if err := s.rebuild(); err != nil {
			return fmt.Errorf("put Services into nftables: %w", err)
		}
	}
}

var errLost = errors.New("somebody deleted the table")

func families(cidrs []netip.Prefix) []nft.Family {
	var out []nft.Family
	for _, c := range cidrs {
		f := nft.IPv4
		if c.Addr().Is6() {
			f = nft.IPv6
		}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// listen marks what changes and waits until everything that exists is known.
func (s *Service) listen(ctx context.Context) (stop func(), err error) {
	var regs []func()
	stop = func() {
		for _, r := range regs {
			r()
		}
	}
	for _, on := range []struct {
		informer cache.SharedIndexInformer
		name     func(any) string
	}{{s.services, objectName}, {s.slices, sliceOwner}} {
		touch := func(obj any) { s.mark(on.name(obj)) }
		reg, err := on.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: touch, DeleteFunc: touch,
			UpdateFunc: func(before, after any) { touch(before); touch(after) },
		})
		if err != nil {
			return stop, fmt.Errorf("watch Services: %w", err)
		}
		regs = append(regs, func() { _ = on.informer.RemoveEventHandler(reg) })
		select {
		case <-reg.HasSyncedChecker().Done():
		case <-ctx.Done():
		}
	}
	return stop, nil
}

// objectName is namespace/name, also of an object whose deletion was missed.
func objectName(obj any) string {
	name, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	return name
}

// sliceOwner is namespace/name of the Service that an EndpointSlice is of.
func sliceOwner(obj any) string {
	if d, is := obj.(cache.DeletedFinalStateUnknown); is {
		obj = d.Obj
	}
	slice, is := obj.(*discoveryv1.EndpointSlice)
	if !is || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return ""
	}
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

func (s *Service) mark(name string) {
	if name == "" {
		return
	}
	s.mu.Lock()
	s.dirty[name] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Service) takeDirty() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.dirty))
	for n := range s.dirty {
		names = append(names, n)
	}
	s.dirty = map[string]struct{}{}
	slices.Sort(names) // who comes first when two claim one place is not chance
	return names
}

// rebuild reads what the kernel has and makes it what it shall be.
func (s *Service) rebuild() error {
	s.takeDirty()
	s.owner, s.owned, s.wait = map[Key]string{}, map[string][]Key{}, map[Key]map[string]struct{}{}
	var errs []error
	former := map[*plane][]Key{}
	for _, p := range s.planes {
		var err error
		if p.m, err = adopt(p.layout().family, p.conn); err != nil {
			return err
		}
		for k := range p.m.there {
			former[p] = append(former[p], k)
		}
		p.edit = p.m.edit()
		p.edit.change = p.layout().base(sameFamily(s.cfg.ServiceCIDRs, p.scope.IPv6))
	}
	names := s.services.GetIndexer().ListKeys()
	slices.Sort(names)
	for _, name := range names {
		s.replan(name)
	}
	for _, p := range s.planes {
		for _, k := range former[p] {
			if _, has := s.owner[k]; !has {
				p.edit.remove(k)
			}
		}
		errs = append(errs, s.commit(p))
	}
	return errors.Join(errs...)
}

func (p *plane) layout() layout {
	if p.scope.IPv6 {
		return layout{nft.IPv6}
	}
	return layout{nft.IPv4}
}

func sameFamily(cidrs []netip.Prefix, v6 bool) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(cidrs), func(c netip.Prefix) bool { return c.Addr().Is6() != v6 })
}

// sync brings the named Services into step in one transaction.
func (s *Service) sync(names []string) error {
	for _, p := range s.planes {
		p.edit = p.m.edit()
	}
	for len(names) > 0 {
		name := names[0]
		names = append(names[1:], s.replan(name)...)
	}
	var errs []error
	for _, p := range s.planes {
		errs = append(errs, s.commit(p))
	}
	return errors.Join(errs...)
}

// replan puts what the Service shall be into the planes' edits. It returns the
// Services that waited for a place it gave up.
func (s *Service) replan(name string) (next []string) {
	var want []Frontend
	svc, eps := s.objects(name)
	for _, p := range s.planes {
		if svc == nil {
			break
		}
		for _, f := range Plan(svc, eps, p.scope) {
			if by, taken := s.owner[f.Key]; taken && by != name {
				s.queueFor(f.Key, name, by)
				continue
			}
			s.owner[f.Key] = name
			p.edit.put(f)
			want = append(want, f)
		}
	}
	before := s.owned[name]
	delete(s.owned, name)
	for _, f := range want {
		s.owned[name] = append(s.owned[name], f.Key)
	}
	for _, k := range before {
		if slices.Contains(s.owned[name], k) {
			continue
		}
		delete(s.owner, k)
		for _, p := range s.planes {
			p.edit.remove(k)
		}
		for waiting := range s.wait[k] {
			next = append(next, waiting)
		}
		delete(s.wait, k)
	}
	return next
}

func (s *Service) queueFor(k Key, name, by string) {
	if s.wait[k] == nil {
		s.wait[k] = map[string]struct{}{}
	}
	if _, known := s.wait[k][name]; !known {
		s.wait[k][name] = struct{}{}
		s.cfg.Log.Warn("two Services claim one place; the first keeps it",
			zap.String("service", name), zap.String("owner", by),
			zap.Stringer("address", k.Addr), zap.Uint16("port", k.Port))
	}
}

func (s *Service) objects(name string) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	obj, ok, err := s.services.GetIndexer().GetByKey(name)
	if err != nil || !ok {
		return nil, nil
	}
	found, err := s.slices.GetIndexer().ByIndex(byService, name)
	if err != nil {
		return obj.(*corev1.Service), nil
	}
	eps := make([]*discoveryv1.EndpointSlice, len(found))
	for i, o := range found {
		eps[i] = o.(*discoveryv1.EndpointSlice)
	}
	return obj.(*corev1.Service), eps
}

// commit applies a plane's edit and then ends what still hangs on endpoints
// that are gone.
func (s *Service) commit(p *plane) error {
	began := time.Now()
	change := p.edit.done()
	gone, moves := p.edit.gone, p.edit.moves
	p.edit = nil
	if change.Empty() {
		return nil
	}
	if err := p.conn.Apply(change); err != nil {
		return err
	}
	s.cfg.Log.Debug("Services changed", zap.Duration("took", time.Since(began)))
	if err := errors.Join(forgetClients(p, moves), forgetUDP(p, gone)); err != nil {
		s.cfg.Log.Warn("some clients keep going to endpoints that are gone until they time out", zap.Error(err))
	}
	return nil
}

// Cleanup removes the table of the host's data directory, for killall.
func Cleanup(h config.Host) error { return nft.Remove(h.Table) }
