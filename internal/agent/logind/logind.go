// Package logind has a machine wait for its node before it goes down.
//
// Follow speaks to systemd's logind over the system's message bus (D-Bus): it holds a
// lock that delays a shutdown, hears that one begins, and lets go when the node is
// done. The package has the little of D-Bus that this needs: a message, a bus that
// calls methods one at a time, files that come with an answer. It never has the
// machine go down.
package logind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Where things are on every machine with systemd.
const (
	systemBus = "/run/dbus/system_bus_socket"
	// The last of all files in its directory counts; /run is empty after a boot.
	settings = "/run/systemd/logind.conf.d/zz-skiff.conf"

	login  = "org.freedesktop.login1"
	manage = "org.freedesktop.login1.Manager"
	place  = "/org/freedesktop/login1"
)

// Follow calls changed with true when this machine begins to go down, which it goes on
// with when changed has returned, or after wait, and with false when it does not after
// all. It returns when the context ends, without error, or when logind cannot be spoken
// with.
func Follow(ctx context.Context, wait time.Duration, changed func(goes bool)) error {
	return machine{socket: systemBus, settings: settings}.follow(ctx, wait, changed)
}

// machine is where a machine has its bus and logind's settings.
type machine struct{ socket, settings string }

func (p machine) follow(ctx context.Context, wait time.Duration, changed func(goes bool)) (err error) {
	b, err := dial(ctx, p.socket)
	if err != nil {
		return endOf(ctx, err)
	}
	defer b.close()
	if err := p.allow(ctx, b, wait); err != nil {
		return endOf(ctx, err)
	}
	// First the signal, then the lock: no shutdown is missed in between.
	if err := b.subscribe(); err != nil {
		return endOf(ctx, err)
	}
	lock, err := b.inhibit()
	if err != nil {
		return endOf(ctx, err)
	}
	defer func() { lock.Close() }()
	for {
		goes, err := b.powerChange()
		if err != nil {
			return endOf(ctx, fmt.Errorf("wait for the machine to go down: %w", err))
		}
		changed(goes)
		lock.Close() // when it goes, this lets it
		if goes {
			continue
		}
		if lock, err = b.inhibit(); err != nil {
			return endOf(ctx, err)
		}
	}
}

// endOf is no error when the context has ended.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// allow has logind wait as long as that for those who hold locks.
func (p machine) allow(ctx context.Context, b *bus, wait time.Duration) error {
	now, err := b.longestDelay()
	if err != nil || now >= wait {
		return err
	}
	text := fmt.Sprintf("# skiff ends its Pods before the machine goes down\n[Login]\nInhibitDelayMaxSec=%.0f\n", wait.Seconds())
	err = os.MkdirAll(filepath.Dir(p.settings), 0o755)
	if err == nil {
		err = os.WriteFile(p.settings, []byte(text), 0o644)
	}
	if err != nil {
		return fmt.Errorf("have logind wait longer: %w", err)
	}
	if err := b.reload(); err != nil {
		return err
	}
	// The settings are read some time after that was asked for, and nothing tells when.
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		now, err := b.longestDelay()
		if err != nil || now >= wait {
			return err
		}
		if pause > 2*time.Second {
			return fmt.Errorf("logind waits no longer than %s at a shutdown, and %s are wanted: is InhibitDelayMaxSec set in a file that comes after %s?", now, wait, p.settings)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// longestDelay is how long logind waits at most.
func (b *bus) longestDelay() (time.Duration, error) {
	signature, body := texts(manage, "InhibitDelayMaxUSec")
	r, err := b.call(message{
		destination: login, path: place, iface: "org.freedesktop.DBus.Properties", member: "Get", signature: signature, body: body,
	})
	if err != nil {
		return 0, fmt.Errorf("ask logind how long it waits: %w", err)
	}
	defer r.close()
	d := decoder{buf: r.body}
	if kind := d.sign(); kind != "t" {
		return 0, fmt.Errorf("ask logind how long it waits: the answer is of type %q", kind)
	}
	micro := d.long()
	return time.Duration(min(micro, uint64(time.Duration(1<<63-1)/time.Microsecond))) * time.Microsecond, d.err
}

// reload has logind read its settings again.
func (b *bus) reload() error {
	signature, body := texts("systemd-logind.service", "all")
	e := encoder{buf: body}
	const hangUp = 1
	e.number(hangUp)
	r, err := b.call(message{
		destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", iface: "org.freedesktop.systemd1.Manager",
		member: "KillUnit", signature: signature + "i", body: e.buf,
	})
	if err != nil {
		return fmt.Errorf("have logind read its settings: %w", err)
	}
	r.close()
	return nil
}

// inhibit takes a lock that delays a shutdown until it is closed.
func (b *bus) inhibit() (*os.File, error) {
	signature, body := texts("shutdown", "skiff", "Pods end before the machine goes down", "delay")
	r, err := b.call(message{destination: login, path: place, iface: manage, member: "Inhibit", signature: signature, body: body})
	if err != nil {
		return nil, fmt.Errorf("have logind wait at a shutdown: %w", err)
	}
	if len(r.files) != 1 {
		r.close()
		return nil, errors.New("have logind wait at a shutdown: " + strconv.Itoa(len(r.files)) + " files came for a lock")
	}
	return r.files[0], nil
}

// subscribe asks the bus for logind's word of shutdowns.
func (b *bus) subscribe() error {
	signature, body := texts("type='signal',sender='" + login + "',interface='" + manage + "',member='PrepareForShutdown',path='" + place + "'")
	r, err := b.call(message{
		destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "AddMatch",
		signature: signature, body: body,
	})
	if err != nil {
		return fmt.Errorf("ask to be told of shutdowns: %w", err)
	}
	r.close()
	return nil
}

// powerChange waits for logind's word that the machine goes down, or does not.
func (b *bus) powerChange() (goes bool, err error) {
	for {
		m, err := b.signal()
		if err != nil {
			return false, err
		}
		if m.iface != manage || m.member != "PrepareForShutdown" || m.signature != "b" {
			continue // the bus greets with a signal of its own
		}
		d := decoder{buf: m.body}
		return d.number() != 0, d.err
	}
}
