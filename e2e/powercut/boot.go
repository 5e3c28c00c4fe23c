package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-sh/skiff/e2e/powercut/load"
	"github.com/skiff-sh/skiff/internal/store"
)

// boot is one life of the machine, from the plan to the cut.
type boot struct {
	trial *trial
	plan  load.Plan
	cut   cutPlan

	opened  store.Revision
	records map[store.Key]load.Held
	checked bool // the store was found well, and the load has begun
	armed   bool
	acks    int
	wrong   []string // what the store did
	err     error    // what the guest did
	log     []string
}

const (
	// patience is how long a machine may do nothing that is waited for.
	patience = 2 * time.Minute
	// longest is when the power goes if the moment does not come.
	longest = 10 * time.Second
	// linger is how long the guest lives on without a disk: whoever acknowledges
	// what is not on disk yet has the time to be caught.
	linger = 20 * time.Millisecond
)

// run starts the machine, lets it work until the cut, and takes all that it
// told. An error means that there was no cut.
func (b *boot) run(ctx context.Context) (wrong []string, err error) {
	disk := b.trial.machine.disk
	if b.cut.begin == fromStart {
		disk.Arm(b.cut.disk)
	}
	g, err := b.trial.machine.start(ctx)
	if err != nil {
		return nil, err
	}
	defer g.release()
	plan, err := json.Marshal(b.plan)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(g.input, "%s\n", plan); err != nil {
		return nil, fmt.Errorf("tell the guest its plan: %w", err)
	}
	err = b.watch(ctx, g)
	disk.Cut()
	g.kill()
	for line := range g.lines {
		b.take(line)
	}
	for _, line := range b.trial.machine.console() {
		b.log = append(b.log, "console: "+line)
		if strings.Contains(line, "-fs error") || strings.Contains(line, "BUG:") || strings.Contains(line, "guest:") {
			b.wrong = append(b.wrong, line)
		}
	}
	return b.wrong, errors.Join(err, b.err)
}

// watch takes what the guest tells until the power is off.
func (b *boot) watch(ctx context.Context, g *guest) error {
	disk := b.trial.machine.disk
	limit := time.NewTimer(patience)
	defer limit.Stop()
	off := disk.Off()
	var over <-chan time.Time
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				return errors.New("the machine ended by itself")
			}
			before := b.checked
			b.take(line)
			if len(b.wrong) > 0 || b.err != nil {
				return nil
			}
			if b.checked && !before {
				limit.Reset(longest)
				if b.cut.after > 0 {
					limit.Reset(b.cut.after)
				}
			}
		case <-off:
			off, over = nil, time.After(linger)
		case <-over:
			return nil
		case <-limit.C:
			if !b.checked {
				b.wrong = append(b.wrong, fmt.Sprintf("the store was not open after %s", patience))
				return nil
			}
			disk.Cut()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take understands one line.
func (b *boot) take(line string) {
	b.log = append(b.log, line)
	word, rest, _ := strings.Cut(line, " ")
	var err error
	switch word {
	case "ready", "mounted", "snapshotting", "snapshotted":
	case "compacted":
		if b.cut.begin == atCompacted {
			b.trial.machine.disk.Cut()
		}
	case "opened":
		var n int64
		n, err = strconv.ParseInt(rest, 10, 64)
		b.opened, b.records = store.Revision(n), map[store.Key]load.Held{}
	case "record":
		err = b.takeRecord(rest)
	case "checked":
		b.takeChecked(rest)
	case "ack":
		err = b.takeAck(rest)
	case "closed":
		b.trial.model.Close()
		b.trial.machine.disk.Cut()
	case "compacting":
		if b.cut.begin == fromCompact {
			b.arm()
		}
	default:
		err = errors.New(line)
	}
	switch {
	case err == nil:
	case errors.Is(err, load.ErrStray):
		b.err = err
	default:
		b.wrong = append(b.wrong, err.Error())
	}
}

func (b *boot) takeRecord(rest string) error {
	var key store.Key
	var held load.Held
	if _, err := fmt.Sscan(rest, &key.Bucket, &key.Name, &held.Revision, &held.Digest); err != nil {
		return fmt.Errorf("%w: record %s: %v", load.ErrStray, rest, err)
	}
	b.records[key] = held
	return nil
}

// takeChecked judges what was found, and begins the load as the guest does.
func (b *boot) takeChecked(rest string) {
	if n, err := strconv.Atoi(rest); err != nil || n != len(b.records) {
		b.err = fmt.Errorf("%w: checked %s, told were %d", load.ErrStray, rest, len(b.records))
		return
	}
	b.wrong = append(b.wrong, b.trial.model.Found(b.opened, b.records)...)
	b.trial.model.Start(b.plan)
	b.checked = true
	if b.cut.begin == fromLoad {
		b.arm()
	}
}

// arm has the disk wait for its moment, once.
func (b *boot) arm() {
	if !b.armed {
		b.armed = true
		b.trial.machine.disk.Arm(b.cut.disk)
	}
}

func (b *boot) takeAck(rest string) error {
	fields := strings.Fields(rest)
	numbers := make([]int64, len(fields))
	for i, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: ack %s: %v", load.ErrStray, rest, err)
		}
		numbers[i] = n
	}
	if len(numbers) < 4 {
		return fmt.Errorf("%w: ack %s", load.ErrStray, rest)
	}
	a := load.Ack{
		Writer: int(numbers[0]),
		Begin:  time.Duration(numbers[1]) * time.Microsecond, End: time.Duration(numbers[2]) * time.Microsecond,
	}
	for _, revision := range numbers[3:] {
		a.Revisions = append(a.Revisions, store.Revision(revision))
	}
	if b.acks++; b.acks == b.cut.acks {
		b.trial.machine.disk.Cut()
	}
	return b.trial.model.Ack(a)
}
