package controller_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/controller/tokencleaner"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// makeToken makes a bootstrap token; change may be nil.
func (p *plane) makeToken(id string, change func(*auth.BootstrapToken)) {
	p.Helper()
	t := auth.BootstrapToken{ID: id, Secret: "0123456789abcdef", Usages: []string{"authentication"}}
	if change != nil {
		change(&t)
	}
	p.create(t.Object())
}

func (p *plane) secret(name string) *corev1.Secret {
	s, _ := state.Get[*corev1.Secret](p.env.State, kind.Secret, metav1.NamespaceSystem, name)
	return s
}

func (p *plane) hasToken(id string) bool { return p.secret(auth.TokenSecretPrefix+id) != nil }

func (p *plane) removeToken(id string) {
	p.Helper()
	_, _, err := p.env.API.Delete(p.ctx, api.Request{
		User: p.to(kind.Secret, "").User, Kind: kind.Secret, Namespace: metav1.NamespaceSystem, Name: auth.TokenSecretPrefix + id,
	}, metav1.DeleteOptions{})
	p.must(err)
	p.settle()
}

// became tells what is remembered of a token that has gone.
func (p *plane) became(id string) string {
	kept := p.secret(auth.GoneTokens)
	if kept == nil || kept.Data[id] == nil {
		return ""
	}
	g, err := auth.ReadGoneToken(kept.Data[id])
	p.must(err)
	return g.Why
}

func expiring(after time.Duration) func(*auth.BootstrapToken) {
	return func(t *auth.BootstrapToken) { t.Expiration = time.Now().Add(after).UTC().Format(time.RFC3339) }
}

func onceOnly(t *auth.BootstrapToken) { t.Once = true }

// A token goes when its time is over, to the second, and nothing else does.
func TestExpiredTokensGo(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("hourly", expiring(time.Hour))
		p.makeToken("forevr", nil)
		p.makeToken("late00", expiring(-time.Second))
		p.makeToken("broken", func(t *auth.BootstrapToken) { t.Expiration = "soon" })
		p.create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-opaque"},
			Data:       map[string][]byte{"expiration": []byte("2000-01-01T00:00:00Z")},
		})
		elsewhere := auth.BootstrapToken{ID: "elsewh", Expiration: "2000-01-01T00:00:00Z"}.Object()
		elsewhere.Namespace = "default"
		p.create(elsewhere)
		equal(p, "a token that came too late", p.hasToken("late00"), false)
		equal(p, "a token whose end nobody understands", p.hasToken("broken"), false)
		p.pass(time.Hour - time.Second)
		equal(p, "a second before its end, the token", p.hasToken("hourly"), true)
		p.pass(time.Second)
		equal(p, "at its end, the token", p.hasToken("hourly"), false)
		if became := p.became("hourly"); !strings.HasPrefix(became, "expired on ") {
			p.Errorf("remembered is %q", became)
		}
		p.pass(1000 * time.Hour)
		equal(p, "the token without an end", p.hasToken("forevr"), true)
		equal(p, "another Secret", p.secret("bootstrap-token-opaque") != nil, true)
		equal(p, "a token of another namespace", state.List[*corev1.Secret](p.env.State, kind.Secret, state.Interest{Namespace: "default"})[0].Name, "bootstrap-token-elsewh")
	})
}

// A token whose end is moved goes at its new end.
func TestMovedExpiration(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("moving", expiring(time.Hour))
		_, err := p.env.API.Modify(p.ctx, api.Request{
			User: p.to(kind.Secret, "").User, Kind: kind.Secret, Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-moving",
		}, func(obj kind.Object) error {
			obj.(*corev1.Secret).Data["expiration"] = []byte(time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339))
			return nil
		})
		p.must(err)
		p.pass(time.Hour + time.Second)
		equal(p, "at its old end, the token", p.hasToken("moving"), true)
		p.pass(time.Hour)
		equal(p, "at its new end, the token", p.hasToken("moving"), false)
	})
}

// A token that works once stays for a day after that, so that its machine may
// come back, and is remembered then; one that is removed is, too.
func TestUsedAndRemovedTokens(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("once00", onceOnly)
		p.makeToken("gone00", nil)
		p.pass(48 * time.Hour)
		p.must(tokencleaner.Spend(p.ctx, p.env, "system:bootstrap:once00", "one", "11"))
		p.removeToken("gone00")
		if became := p.became("gone00"); !strings.HasPrefix(became, "was removed on ") {
			p.Errorf("of the removed token there is remembered %q", became)
		}
		p.pass(24*time.Hour - time.Second)
		equal(p, "just before a day, the used token", p.hasToken("once00"), true)
		p.pass(time.Second)
		equal(p, "after a day, the used token", p.hasToken("once00"), false)
		if became := p.became("once00"); !strings.HasPrefix(became, "works once, and node one joined with it on ") {
			p.Errorf("of the used token there is remembered %q", became)
		}
	})
}

// What is remembered does not grow for ever.
func TestRememberedTokensAreFew(t *testing.T) {
	inPlane(t, func(p *plane) {
		for i := range 101 {
			id := fmt.Sprintf("tok%03d", i)
			p.makeToken(id, nil)
			p.removeToken(id)
			p.pass(time.Second)
		}
		equal(p, "remembered tokens", len(p.secret(auth.GoneTokens).Data), 100)
		equal(p, "what became of the first", p.became("tok000"), "")
		p.pass(30 * 24 * time.Hour)
		p.makeToken("last00", nil)
		p.removeToken("last00")
		equal(p, "remembered tokens after a month", len(p.secret(auth.GoneTokens).Data), 1)
	})
}

// Of machines that race with a token that works once, one wins, and may come
// again; with one that works often all do, and without its Secret none.
func TestMachinesRaceWithAToken(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("once00", onceOnly)
		p.makeToken("often0", nil)
		spend := func(id string, machine int) error {
			return tokencleaner.Spend(p.ctx, p.env, auth.BootstrapUser+id, fmt.Sprintf("node-%d", machine), fmt.Sprint(machine))
		}
		var racing sync.WaitGroup
		results := make([]error, 20)
		for i := range results {
			racing.Go(func() {
				results[i] = errors.Join(spend("often0", i), spend("server", i))
				if results[i] == nil {
					results[i] = spend("once00", i)
				}
			})
		}
		racing.Wait()
		winner, winners := -1, 0
		for i, err := range results {
			var refusal auth.Refusal
			switch {
			case err == nil:
				winner = i
				winners++
			case !errors.As(err, &refusal):
				p.Errorf("machine %d: %v", i, err)
			}
		}
		equal(p, "winners", winners, 1)
		if winners == 0 {
			return
		}
		p.must(spend("once00", winner))
		for i, err := range results {
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("node node-%d joined with it", winner)) {
				p.Errorf("machine %d is told %v", i, err)
			}
		}
		p.removeToken("often0")
		var refusal auth.Refusal
		if err := spend("often0", 1); !errors.As(err, &refusal) {
			p.Errorf("without its Secret: %v", err)
		}
		p.must(tokencleaner.Spend(p.ctx, p.env, "system:node:one", "one", "11")) // nothing to spend
	})
}

// holder is a machine that comes with a token that works once.
func (p *plane) holder(name string) *joiner {
	j := p.joiner(name)
	j.token = "once00"
	return j
}

// Whoever comes second with a token that works once is told who was first, and
// does not get the name either. The first may ask again.
func TestTokenThatWorksOnce(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("once00", onceOnly)
		first := p.holder("one").join()
		second := p.holder("two")
		request := second.request(clientSigner)
		text, _ := p.answer(request)
		equal(p, "the second machine", text, "Denied TokenRefused")
		r := get[*certificatesv1.CertificateSigningRequest](p, kind.CertificateSigningRequest, request)
		if message := r.Status.Conditions[0].Message; !strings.Contains(message, "bootstrap token once00 works once, and node one joined with it") {
			p.Errorf("it is told %q", message)
		}
		if _, ok := p.remembered("two"); ok {
			p.Error("it has the name nevertheless")
		}
		again := p.holder("one")
		again.key = first.key // its certificate was lost on the way
		again.join()
		other := p.holder("three")
		other.key = first.key
		text, _ = p.answer(other.request(clientSigner))
		equal(p, "the same machine under another name", text, "Denied TokenRefused")
		p.removeToken("once00")
		text, _ = p.answer(p.holder("four").request(clientSigner))
		equal(p, "a request whose token has gone meanwhile", text, "Denied TokenRefused")
	})
}

// Of many machines that come at once, each with its own name, one gets in.
func TestRaceWithATokenThatWorksOnce(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.makeToken("once00", onceOnly)
		var requests []string
		for i := range 10 {
			requests = append(requests, p.holder(fmt.Sprintf("node-%d", i)).request(clientSigner))
		}
		p.pass(time.Minute)
		outcomes := map[string]int{}
		for _, r := range requests {
			text, _ := p.answer(r)
			outcomes[text]++
		}
		equal(p, "machines that got in", outcomes["Approved,Issued AutoApproved"], 1)
		equal(p, "machines that were refused", outcomes["Denied TokenRefused"], 9)
	})
}

// A server that is cut off between spending a token and approving the request
// for which it was spent goes on with that, and lets nobody else in.
func TestTokenIsSpentFirst(t *testing.T) {
	fail := true
	broken := admission.Step{Name: "broken", Validate: func(_ context.Context, r *admission.Request) error {
		if fail && r.Subresource == "approval" {
			return errors.New("the disk is full")
		}
		return nil
	}}
	inPlane(t, func(p *plane) {
		p.makeToken("once00", onceOnly)
		request := p.holder("one").request(clientSigner)
		text, _ := p.answer(request)
		equal(p, "the first machine", text, "Pending")
		fail = false
		text, _ = p.answer(p.holder("two").request(clientSigner))
		equal(p, "the second machine", text, "Denied TokenRefused")
		p.pass(time.Minute)
		text, _ = p.answer(request)
		equal(p, "the first machine", text, "Approved,Issued AutoApproved")
	}, broken)
}

// A name that is another's does not cost the token: the machine tries again under
// a free one.
func TestTakenNameSpendsNoToken(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.joiner("one").join()
		p.nodeAt("one", "198.51.100.7")
		p.makeToken("once00", onceOnly)
		text, _ := p.answer(p.holder("one").request(clientSigner))
		equal(p, "a taken name", text, "Denied NodeNameTaken")
		p.holder("two").join()
	})
}
