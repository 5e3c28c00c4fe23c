package checkpoint

import (
	"bytes"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func label(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"v": value} }
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

// A node that starts while no server answers has what it last saw, and goes on
// from there when one does.
func TestStartWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		s.put("b")
		s.put("c")
		b := start(t, s, path)
		store, _ := b.follow()
		b.wantPods(store, "a", "b", "c")
		s.put("a", label("2"))
		s.remove("b")
		s.put("d")
		pass(2 * time.Second)
		b.cut()
		s.leave()
		s.taken()

		b = start(t, s, path)
		store, informer := b.follow()
		if !informer.HasSynced() {
			t.Fatal("the cache is not filled")
		}
		b.wantPods(store, "a", "c", "d")
		if pod, _, _ := store.GetByKey("default/a"); pod.(*corev1.Pod).Labels["v"] != "2" {
			t.Errorf("a is %v", pod)
		}
		pass(time.Hour)
		if asked := s.taken(); len(asked) != 1 {
			t.Errorf("an hour without a server: watches were tried %q", asked)
		}
		s.put("e")
		delete(s.pods, "c") // c is told by no event: what was before is gone
		s.oldest = s.revision
		s.come()
		pass(10 * time.Second)
		b.wantPods(store, "a", "d", "e")
		if asked := s.taken(); !slices.Equal(asked, []string{"from 16", "from 16"}) {
			t.Errorf("the node asked %q, want one watch that goes on and one that begins anew", asked)
		}
		b.stop()
		s.leave()
		b = start(t, s, path)
		store, _ = b.follow()
		b.wantPods(store, "a", "d", "e")
		b.stop()
	})
}

// A server that goes and comes is missed by nobody, and nothing is told twice.
func TestServerAwayForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t)
		s.polite = true
		s.put("a")
		b := start(t, s, somewhere(t))
		store, _ := b.follow()
		pass(2 * time.Second) // a shorter watch would count as broken
		s.taken()
		s.leave()
		pass(10 * time.Minute)
		b.wantPods(store, "a")
		s.put("b")
		s.come()
		pass(lastProbe)
		b.wantPods(store, "a", "b")
		if asked := s.taken(); !slices.Equal(asked, []string{"from 11", "from 11"}) {
			t.Errorf("the node asked %q, want the watch that failed and the one that goes on", asked)
		}
		if b.told != 2 {
			t.Errorf("of two Pods that have come, the cache heard %d times", b.told)
		}
		b.stop()
	})
}

// What stands in front of a server that is away may answer in its place.
func TestNoServerBehindWhatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		b.follow()
		b.stop()
		for _, code := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
			s.code = code
			b = start(t, s, path)
			store, _ := b.follow()
			b.wantPods(store, "a")
			b.stop()
		}
	})
}

// A network that swallows everything does not hold up the start for long.
func TestSilentNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		b.follow()
		b.stop()
		s.silent = true
		b = start(t, s, path)
		store, _ := b.follow()
		pass(patience)
		b.wantPods(store, "a")
		b.stop()
	})
}

// What a server refuses is refused: memory is for when there is none.
func TestRefusalIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		b.follow()
		b.stop()
		s.code = http.StatusUnauthorized
		b = start(t, s, path)
		store, informer := b.follow()
		pass(time.Second)
		b.wantPods(store)
		if informer.HasSynced() {
			t.Error("the cache is filled")
		}
		b.stop()
	})
}

// Nothing but watches is answered from memory.
func TestOnlyWatchesAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t)
		s.put("a")
		b := start(t, s, somewhere(t))
		b.follow()
		s.leave()
		pods := b.client.CoreV1().Pods("default")
		for what, do := range map[string]func() error{
			"get":    func() error { _, err := pods.Get(b.ctx, "a", metav1.GetOptions{}); return err },
			"list":   func() error { _, err := pods.List(b.ctx, metav1.ListOptions{}); return err },
			"delete": func() error { return pods.Delete(b.ctx, "a", metav1.DeleteOptions{}) },
		} {
			if err := do(); err == nil || !strings.Contains(err.Error(), errDown.Error()) {
				t.Errorf("%s: %v", what, err)
			}
		}
		b.stop()
	})
}

// A watch of which nothing is known waits for a server, and is remembered from
// then on.
func TestFirstStartWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.leave()
		b := start(t, s, path)
		store, informer := b.follow()
		pass(400 * time.Millisecond) // the next look is due
		if informer.HasSynced() {
			t.Error("the cache is filled with nothing")
		}
		s.put("a")
		s.come()
		pass(5 * time.Second)
		b.wantPods(store, "a")
		b.stop()
		s.leave()
		b = start(t, s, path)
		store, _ = b.follow()
		b.wantPods(store, "a")
		b.stop()
	})
}

// That there is nothing is known, too.
func TestNothingIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		b := start(t, s, path)
		b.follow()
		b.stop()
		s.leave()
		b = start(t, s, path)
		_, informer := b.follow()
		if !informer.HasSynced() {
			t.Error("the cache is not filled")
		}
		b.stop()
	})
}

func tokenRequest(pod string) *authenticationv1.TokenRequest {
	hour := int64(3600)
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &hour,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod, UID: "1"},
	}}
}

// A Pod gets the last token it was given, and is to ask again soon.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		store, _ := b.follow()
		ask := func(pod string) (*authenticationv1.TokenRequest, error) {
			return b.client.CoreV1().ServiceAccounts("default").CreateToken(b.ctx, "default", tokenRequest(pod), metav1.CreateOptions{})
		}
		for range 2 {
			if _, err := ask("a"); err != nil {
				t.Fatal(err)
			}
		}
		b.stop()
		s.leave()
		b = start(t, s, path)
		store, _ = b.follow()
		b.wantPods(store, "a")
		got, err := ask("a")
		if err != nil || got.Status.Token != "token 2" || *got.Spec.ExpirationSeconds != rememberedLife {
			t.Errorf("got %v, %v", got, err)
		}
		if _, err := ask("b"); err == nil || apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
			t.Errorf("a Pod that was never given one got %v", err)
		}
		s.come()
		pass(10 * time.Second)
		if got, err = ask("a"); err != nil || got.Status.Token != "token 3" || *got.Spec.ExpirationSeconds != 3600 {
			t.Errorf("got %v, %v", got, err)
		}
		s.remove("a")
		s.leave()
		if got, err = ask("a"); err == nil {
			t.Errorf("a Pod that is gone got %v", got)
		}
		b.stop()
	})
}

// What was watched and is not any more is forgotten some time later.
func TestForgettingWhatWasWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		yes := true
		w, err := b.client.CoreV1().Pods("").Watch(b.ctx, metav1.ListOptions{
			SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the Pod, and that it was all
			<-w.ResultChan()
		}
		w.Stop()
		pass(linger / 2)
		if got := open(t, path, "here").names(); len(got) != 1 {
			t.Errorf("after half the time, %q is remembered", got)
		}
		pass(linger/2 + 2*quiet)
		if got := open(t, path, "here").names(); got != nil {
			t.Errorf("after all of it, %q is remembered", got)
		}
		b.stop()
	})
}

// What nobody watches any more is forgotten, and not before a server has
// answered: a node without one may not have come to it yet.
func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		b.follow()
		b.stop()
		s.leave()
		b = start(t, s, path)
		pass(10 * linger)
		store, _ := b.follow()
		b.wantPods(store, "a")
		s.come()
		b.stop()

		b = start(t, s, path)
		if _, err := b.client.CoreV1().ServiceAccounts("x").CreateToken(b.ctx, "default", tokenRequest("x"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(linger + 2*quiet)
		b.stop()
		if text := readFile(t, path); bytes.Contains(text, []byte("default/a")) && strings.Count(string(text), "/api/v1/pods") < 2 {
			t.Error("the Pod is not forgotten")
		}
		s.leave()
		b = start(t, s, path)
		_, informer := b.follow()
		if informer.HasSynced() {
			t.Error("the cache is filled with what was forgotten")
		}
		b.stop()
	})
}
