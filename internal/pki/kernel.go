package pki

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kept says whether something keeps this machine's clock right: NTP daemons tell
// the kernel, and the kernel forgets it when the clock is set by hand.
func kept() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR
}

// FollowSets wakes those who wait for Clock.Jumped whenever this machine's clock
// is set, until the context ends. The kernel tells; nothing is asked again and
// again.
func (p *Past) FollowSets(ctx context.Context) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch this machine's clock: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "clock")
	defer timer.Close()
	stop := context.AfterFunc(ctx, func() { timer.Close() })
	defer stop()
	for {
		err := awaitSet(timer)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch this machine's clock: %w", err)
		}
		p.Jump()
	}
}

// awaitSet returns when the clock was set. The timer itself is for a time that
// does not come.
func awaitSet(timer *os.File) error {
	raw, err := timer.SyscallConn()
	if err != nil {
		return err
	}
	never := &unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 33}} // in the year 2242
	var armed error
	err = raw.Control(func(fd uintptr) {
		armed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, never, nil)
	})
	if err == nil && armed == nil {
		_, err = timer.Read(make([]byte, 8))
	}
	// It may have been set before the timer was armed anew, too.
	if err = errors.Join(err, armed); errors.Is(err, unix.ECANCELED) {
		return nil
	}
	return err
}
