package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const year = 365 * day

// known returns what a file of before says.
func known(t *testing.T, what time.Time) *Past {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clock")
	if !what.IsZero() {
		if err := os.WriteFile(file, []byte(what.Format(time.RFC3339)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := OpenPast(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLatest(t *testing.T) {
	old, future, ages := build.Add(-2*year), build.Add(2*year), build.Add(36*year)
	end := build.Add(10 * year)
	for name, c := range map[string]struct {
		role string // alone, node, server
		now  time.Time
		past time.Time // what the file says
		kept bool
		want time.Time
	}{
		"a clock with nobody to ask":                  {"alone", future, time.Time{}, false, future},
		"… that is behind the build":                  {"alone", old, time.Time{}, false, build},
		"a new node whose clock is behind":            {"node", old, time.Time{}, false, build},
		"… is ahead":                                  {"node", future, time.Time{}, false, build},
		"… is ahead, and kept right":                  {"node", future, time.Time{}, true, future},
		"a node that has heard a server":              {"node", old, build.Add(year), false, build.Add(year)},
		"… and whose clock is ahead of that":          {"node", future, build.Add(year), false, build.Add(year)},
		"a node that was told nonsense, kept right":   {"node", build.Add(day), future, true, build.Add(day)},
		"kept right, but behind the build":            {"node", old, time.Time{}, true, build},
		"a server's clock is the cluster's":           {"server", future, time.Time{}, false, future},
		"… also where it was behind before":           {"server", future, build.Add(year), false, future},
		"a server that has lost its clock":            {"server", old, build.Add(year), false, build.Add(year)},
		"a server whose clock was ahead, kept right":  {"server", build.Add(day), future, true, build.Add(day)},
		"a server by whose clock the authority ended": {"server", ages, build.Add(year), false, build.Add(year)},
		"… and whose clock is kept right":             {"server", ages, build.Add(year), true, ages},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // else the past goes on
				clock := clockAt(c.now)
				clock.Kept = func() bool { return c.kept }
				if c.role != "alone" {
					clock.Past = known(t, c.past)
				}
				if c.role == "server" {
					clock.Past.own = true
					clock.Past.Bound(end)
				}
				for range 2 { // what was shown the first time changes nothing
					if got := clock.Latest(); !got.Equal(c.want) {
						t.Errorf("got %s, want %s", got, c.want)
					}
				}
			})
		})
	}
}

func TestPastGoesOnAndNeverBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := known(t, time.Time{})
		if !p.Time().IsZero() {
			t.Error("knows something out of nothing")
		}
		p.Hear(build, build.Add(year))
		time.Sleep(40 * time.Hour)
		if got := p.Time(); !got.Equal(build.Add(40 * time.Hour)) {
			t.Errorf("40 hours later it is %s", got)
		}
		p.Hear(build.Add(time.Hour), build.Add(year))
		if got := p.Time(); !got.Equal(build.Add(40 * time.Hour)) {
			t.Errorf("went back to %s", got)
		}
		p.Hear(build.Add(2*year), build.Add(year))
		if got := p.Time(); !got.Equal(build.Add(40 * time.Hour)) {
			t.Errorf("believed a server that says its own certificate has ended: %s", got)
		}
	})
}

// A card that wears out gets one small write a day; who starts anew knows the day.
func TestPastIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := known(t, time.Time{})
		writes, last := 0, ""
		for hour := range 240 {
			p.Hear(build.Add(time.Duration(hour)*time.Hour), build.Add(year))
			text, err := os.ReadFile(p.file)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != last {
				writes, last = writes+1, string(text)
			}
			time.Sleep(time.Hour)
		}
		if writes != 10 {
			t.Errorf("%d writes in ten days", writes)
		}
		again, err := OpenPast(p.file)
		if err != nil {
			t.Fatal(err)
		}
		if behind := p.Time().Sub(again.Time()); behind < 0 || behind > day {
			t.Errorf("what was kept is %s behind", behind)
		}
		if err := p.Save(); err != nil {
			t.Fatal(err)
		}
		if again, err = OpenPast(p.file); err != nil || p.Time().Sub(again.Time()) > time.Second {
			t.Errorf("after saving it is %s, want %s (%v)", again.Time(), p.Time(), err)
		}
		if info, err := os.Stat(p.file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
}

func TestPastThatIsDamagedIsNone(t *testing.T) {
	for _, text := range []string{"", "\x00\x00\x00", "yesterday"} {
		file := filepath.Join(t.TempDir(), "clock")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := OpenPast(file); err != nil || !p.Time().IsZero() {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What cannot be kept is no reason to know nothing.
func TestPastThatCannotBeKept(t *testing.T) {
	p, err := OpenPast(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	p.file = "/proc/none/clock"
	p.Hear(build, build.Add(year))
	if p.Time().Before(build) {
		t.Error("forgotten")
	}
}

func TestJumpsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := known(t, build)
		for _, c := range []struct {
			what  string
			do    func()
			jumps bool
		}{
			{"a server says what was thought", func() { p.Hear(p.Time().Add(time.Second), build.Add(9*year)) }, false},
			{"a server says that it is next year", func() { p.Hear(build.Add(year), build.Add(9*year)) }, true},
			{"a server says that it is last year", func() { p.Hear(build, build.Add(9*year)) }, false},
			{"the kernel says that the clock was set", p.Jump, true},
		} {
			jumped := Clock{Past: p}.Jumped()
			c.do()
			told := false
			select {
			case <-jumped:
				told = true
			default:
			}
			if told != c.jumps {
				t.Errorf("%s: told %t", c.what, told)
			}
		}
	})
}

// Who believed a time that this server told must not have to refuse it when its
// clock is right again.
func TestCertificatesOutlastWhatWasTold(t *testing.T) {
	now := build.Add(3 * year) // wrong
	clock := Clock{Now: func() time.Time { return now }, Build: build, Past: known(t, time.Time{})}
	clock.Past.own = true
	ca, err := NewAuthority("ca", clockAt(build))
	if err != nil {
		t.Fatal(err)
	}
	told := clock.Latest()
	now = build.Add(day)
	clock.Kept = func() bool { return true }
	if got := clock.Latest(); !got.Equal(now) {
		t.Errorf("with its clock right it judges by %s", got)
	}
	leaf, err := ca.Issue(serving, clock)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Certificate.NotAfter.After(told.Add(year - day)) {
		t.Errorf("ends %s, and %s was told", leaf.Certificate.NotAfter, told)
	}
}

func TestEndedCertificateIsExplained(t *testing.T) {
	ended := fmt.Errorf("handshake: %w", x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{NotAfter: build}})
	told := clockAt(build.Add(-2 * year))
	told.Past = known(t, build.Add(year))
	for name, c := range map[string]struct {
		clock Clock
		want  string
	}{
		"clock": {clockAt(build.Add(2 * year)), "it is 2028-01-02 by this machine's clock: set it if that is wrong"},
		"past":  {told, "it is 2027-01-02 by what a server has told before: if that was wrong, remove " + told.Past.file},
		"build": {clockAt(build.Add(-2 * year)), "it is 2026-01-02 by the date of this build"},
	} {
		err := c.clock.Explain(ended)
		if !errors.As(err, new(x509.CertificateInvalidError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if other := errors.New("connection refused"); told.Explain(other) != other {
		t.Error("explained what is something else")
	}
}
