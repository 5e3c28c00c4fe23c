package pki

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// office issues certificates to a Renewal under test, in a bubble.
type office struct {
	Renewal
	ca      Pair
	clock   Clock
	issued  atomic.Int64
	offset  atomic.Int64 // of its clock from the bubble's
	refuses atomic.Bool
	logs    *observer.ObservedLogs
	end     func()
}

// newOffice starts a Renewal.
func newOffice(t *testing.T, change ...func(*office)) *office {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	past, err := OpenPast(t.TempDir() + "/clock")
	if err != nil {
		t.Fatal(err)
	}
	past.own = true
	o := &office{logs: logs}
	o.clock = Clock{
		Now: func() time.Time { return time.Now().Add(time.Duration(o.offset.Load())) }, Build: time.Unix(0, 0), Past: past,
	}
	if o.ca, err = NewAuthority("ca", o.clock); err != nil {
		t.Fatal(err)
	}
	past.Bound(o.ca.Certificate.NotAfter)
	first, err := o.ca.Issue(serving, o.clock)
	if err != nil {
		t.Fatal(err)
	}
	o.Renewal = Renewal{
		Name: "test", Identity: NewIdentity(first), Clock: o.clock, Until: o.ca.Certificate.NotAfter, Log: zap.New(core),
		Obtain: func(context.Context) (Pair, error) {
			if o.refuses.Load() {
				return Pair{}, errors.New("the office is closed")
			}
			o.issued.Add(1)
			return o.ca.Issue(serving, o.clock)
		},
	}
	for _, fn := range change {
		fn(o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	o.end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	return o
}

func (o *office) left() time.Duration {
	return o.Identity.Pair().Certificate.NotAfter.Sub(o.clock.Latest())
}

func TestRenewalOverYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, func(o *office) { o.clock.Past.file = "/proc/none" }) // 3,650 writes
		defer o.end()
		for month := range 10 * 12 {
			if left := o.left(); left <= 0 || month < 9*12 && left < renewBefore-day {
				t.Fatalf("in month %d a certificate has %s left", month, left)
			}
			time.Sleep(30 * day)
			synctest.Wait()
		}
		// Every eight months until the authority's end comes within a year.
		if n := o.issued.Load(); n < 13 || n > 15 {
			t.Errorf("%d certificates in ten years", n)
		}
		if !o.Identity.Pair().Certificate.NotAfter.Equal(o.ca.Certificate.NotAfter) {
			t.Error("the last one does not end with its authority")
		}
	})
}

func TestRenewalTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, func(o *office) { o.refuses.Store(true) })
		defer o.end()
		time.Sleep(year - renewBefore + day)
		synctest.Wait()
		if n := o.logs.FilterMessage("certificate not renewed; trying again").Len(); n != 1 {
			t.Errorf("%d warnings", n)
		}
		if n := o.logs.FilterMessage("certificate not renewed").Len(); n < 100 || n > 200 {
			t.Errorf("%d attempts in a day", n)
		}
		o.refuses.Store(false)
		time.Sleep(lastRetry)
		synctest.Wait()
		if n := o.issued.Load(); n != 1 || o.left() < 360*day {
			t.Errorf("%d issued, %s left", n, o.left())
		}
	})
}

func TestEndedCertificateIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, func(o *office) { o.refuses.Store(true) })
		defer o.end()
		time.Sleep(year + day)
		synctest.Wait()
		if o.logs.FilterMessage("certificate has ended and cannot be renewed; trying again").Len() == 0 {
			t.Error("nobody is told")
		}
	})
}

// NTP sets the clock forward by two years, after certificates were issued.
func TestRenewalWhenTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.end()
		time.Sleep(time.Hour)
		o.offset.Store(int64(2 * year))
		o.clock.Past.Jump()
		synctest.Wait()
		if n := o.issued.Load(); n != 1 || o.left() < 360*day {
			t.Errorf("%d issued, %s left", n, o.left())
		}
	})
}

// … and nobody tells: a handshake finds out, or at the latest the next day.
func TestRenewalWhenNobodyTellsThatTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.end()
		o.offset.Store(int64(2 * year))
		time.Sleep(day)
		synctest.Wait()
		if n := o.issued.Load(); n != 1 {
			t.Errorf("%d issued within a day", n)
		}
		o.offset.Add(int64(2 * year))
		o.clock.Latest() // as a handshake asks
		synctest.Wait()
		if n := o.issued.Load(); n != 2 {
			t.Errorf("%d issued after a handshake", n)
		}
	})
}

func TestOutdatedCertificateIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outdated atomic.Bool
		changed := make(chan struct{})
		o := newOffice(t, func(o *office) {
			o.Changed = changed
			o.Outdated = func(Pair) bool { return outdated.Load() }
		})
		defer o.end()
		outdated.Store(true)
		changed <- struct{}{}
		synctest.Wait()
		if n := o.issued.Load(); n != 1 {
			t.Errorf("%d issued", n)
		}
		time.Sleep(10 * day) // what does not get better is not asked for all the time
		synctest.Wait()
		if n := o.issued.Load(); n > 11 {
			t.Errorf("%d issued in ten days", n)
		}
	})
}

// What was issued while the clock was slow lasts as long as its authority, and no
// longer than needed once the clock is right.
func TestLeafOfASlowClock(t *testing.T) {
	dir := t.TempDir()
	slow, right := clockAt(time.Unix(0, 0)), clockAt(build.Add(2*year))
	f, ca := open(t, dir, slow)
	leaf, err := f.Leaf("serving", ca, serving)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Certificate.NotAfter.Equal(ca.Certificate.NotAfter) {
		t.Errorf("ends %s", leaf.Certificate.NotAfter)
	}
	if !f.Fits(leaf, ca, serving) {
		t.Error("it is replaced although the clock is still slow")
	}
	f, ca = open(t, dir, right)
	if leaf, err = f.Leaf("serving", ca, serving); err != nil || !leaf.Certificate.NotAfter.Equal(build.Add(3*year)) {
		t.Errorf("ends %s, %v", leaf.Certificate.NotAfter, err)
	}
}
