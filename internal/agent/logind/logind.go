// Package logind has a machine wait for its node before it goes down.
//
// Follow speaks to systemd's logind over the system's message bus (D-Bus): it holds a
// lock that delays a shutdown, hears that one begins, and lets go when the node is
// done. It never has the machine go down.
package logind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
)

// Where things are on every machine with systemd.
const (
	systemBus = "/run/dbus/system_bus_socket"
	// The last of all files in its directory counts; /run is empty after a boot.
	settings = "/run/systemd/logind.conf.d/zz-skiff.conf"

	login  = "org.freedesktop.login1"
	manage = "org.freedesktop.login1.Manager"
	place  = "/org/freedesktop/login1"
	goDown = "PrepareForShutdown"
)

// patience is how long the bus and its services may take to answer.
const patience = 25 * time.Second

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
	b, err := connect(ctx, p.socket)
	if err != nil {
		return endOf(ctx, err)
	}
	defer b.conn.Close()
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

// bus is a connection to a message bus.
type bus struct {
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

// connect begins with the bus at a socket. The connection ends with the context.
func connect(ctx context.Context, socket string) (*bus, error) {
	conn, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket),
		dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("connect to the system's bus: %w", err)
	}
	late := time.AfterFunc(patience, func() { conn.Close() })
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if !late.Stop() && ctx.Err() == nil {
		err = fmt.Errorf("it has not answered for %s", patience)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin with the system's bus: %w", err)
	}
	b := &bus{conn: conn, signals: make(chan *dbus.Signal)}
	conn.Signal(b.signals)
	return b, nil
}

// call calls a method and waits for the answer. It ends with the connection, not with
// the context: a file that has come with an answer is then always handed on.
func (b *bus) call(name string, path dbus.ObjectPath, method string, args ...any) ([]any, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.conn.Context()), patience)
	defer cancel()
	answer := b.conn.Object(name, path).CallWithContext(ctx, method, 0, args...)
	return answer.Body, answer.Err
}

// longestDelay is how long logind waits at most.
func (b *bus) longestDelay() (time.Duration, error) {
	answer, err := b.call(login, place, "org.freedesktop.DBus.Properties.Get", manage, "InhibitDelayMaxUSec")
	if err != nil {
		return 0, fmt.Errorf("ask logind how long it waits: %w", err)
	}
	var v dbus.Variant
	if err := dbus.Store(answer, &v); err != nil {
		return 0, fmt.Errorf("ask logind how long it waits: %w", err)
	}
	micro, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("ask logind how long it waits: the answer is %s", v)
	}
	return time.Duration(min(micro, uint64(time.Duration(1<<63-1)/time.Microsecond))) * time.Microsecond, nil
}

// reload has logind read its settings again.
func (b *bus) reload() error {
	const hangUp = int32(1)
	_, err := b.call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.KillUnit",
		"systemd-logind.service", "all", hangUp)
	if err != nil {
		return fmt.Errorf("have logind read its settings: %w", err)
	}
	return nil
}

// inhibit takes a lock that delays a shutdown until it is closed.
func (b *bus) inhibit() (*os.File, error) {
	answer, err := b.call(login, place, manage+".Inhibit", "shutdown", "skiff", "Pods end before the machine goes down", "delay")
	if err != nil {
		return nil, fmt.Errorf("have logind wait at a shutdown: %w", err)
	}
	if len(answer) == 1 {
		// Not by Store: it takes any number for a file.
		if lock, ok := answer[0].(dbus.UnixFD); ok {
			return os.NewFile(uintptr(lock), "lock"), nil
		}
	}
	return nil, fmt.Errorf("have logind wait at a shutdown: %v came for a lock", answer)
}

// subscribe asks the bus for logind's word of shutdowns.
func (b *bus) subscribe() error {
	ctx, cancel := context.WithTimeout(b.conn.Context(), patience)
	defer cancel()
	err := b.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(login), dbus.WithMatchInterface(manage),
		dbus.WithMatchMember(goDown), dbus.WithMatchObjectPath(place))
	if err != nil {
		return fmt.Errorf("ask to be told of shutdowns: %w", err)
	}
	return nil
}

// powerChange waits for logind's word that the machine goes down, or does not.
func (b *bus) powerChange() (goes bool, err error) {
	for s := range b.signals {
		if s.Name != manage+"."+goDown || len(s.Body) != 1 {
			continue // the bus greets with a signal of its own
		}
		if goes, ok := s.Body[0].(bool); ok {
			return goes, nil
		}
	}
	return false, errors.New("the system's bus has ended the connection")
}
