package server

import (
	"context"
	"path/filepath"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/snapshot"
	"github.com/skiff-sh/skiff/internal/store"
)

// snapshotSchedule takes snapshots when the settings say. One that could not be
// taken is reported, and the next one tried; one that a machine which was off
// has missed is not made up for.
type snapshotSchedule struct {
	settings config.Snapshots
	source   snapshot.Source
	revision func() store.Revision
	failed   func(context.Context, error)
	log      *zap.Logger

	last store.Revision // of the last one taken by this process
}

// takeSnapshots runs the schedule until the context ends.
func (s *server) takeSnapshots(ctx context.Context) error {
	if s.settings.Snapshots.Disabled {
		return nil
	}
	schedule := &snapshotSchedule{
		settings: s.settings.Snapshots,
		source: snapshot.Source{
			Copy:     s.engine.Snapshot,
			Server:   config.NewHost(s.settings.DataDir).ServerDir(),
			Node:     s.settings.NodeName,
			Full:     s.settings.Snapshots.Full,
			Compress: s.settings.Snapshots.Compress,
		},
		revision: s.engine.Revision,
		failed:   s.snapshotFailed,
		log:      s.log.Named("snapshot"),
	}
	return schedule.run(ctx)
}

// snapshotFailed tells people that there is no new snapshot.
func (s *server) snapshotFailed(ctx context.Context, err error) {
	s.log.Error("scheduled snapshot not taken", zap.Error(err))
	s.warnNode(ctx, "SnapshotFailed", "The scheduled snapshot was not taken: %v", err)
}

func (s *snapshotSchedule) run(ctx context.Context) error {
	when, err := cron.ParseStandard(s.settings.Schedule)
	if err != nil {
		return err
	}
	for {
		// After what this one took, so that two are never under way. A schedule
		// that is never due has no next time.
		next := when.Next(time.Now())
		if next.IsZero() {
			<-ctx.Done()
			return nil
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := s.take(ctx); err != nil && ctx.Err() == nil {
			s.failed(ctx, err)
		}
	}
}

// take saves a snapshot, copies it to the bucket, and removes those that are
// too many. Where nothing was written since the last one there is none.
func (s *snapshotSchedule) take(ctx context.Context) error {
	revision := s.revision()
	if revision == s.last {
		return nil
	}
	var err error
	if s.source.Passphrase, err = snapshot.Passphrase(s.settings.PassphraseFile); err != nil {
		return err
	}
	directory := snapshot.NewDirectory(s.settings.Dir)
	file, err := directory.Save(ctx, s.settings.Name, s.source)
	if err != nil {
		return err
	}
	s.log.Info("snapshot saved", zap.String("name", file.Name), zap.Int64("bytes", file.Bytes))
	s.prune(ctx, directory, s.settings.Retention)
	if err := s.send(ctx, file); err != nil {
		return err
	}
	s.last = revision
	return nil
}

func (s *snapshotSchedule) send(ctx context.Context, file snapshot.File) error {
	if !s.settings.S3.Enabled {
		return nil
	}
	bucket, err := snapshot.NewBucket(s.settings.S3)
	if err != nil {
		return err
	}
	if _, err := bucket.Put(ctx, filepath.Join(s.settings.Dir, file.Name)); err != nil {
		return err
	}
	s.prune(ctx, bucket, s.settings.S3.Retention)
	return nil
}

// prune is no reason to call a snapshot failed.
func (s *snapshotSchedule) prune(ctx context.Context, place snapshot.Place, keep int) {
	removed, err := snapshot.Prune(ctx, place, snapshot.Base(s.settings.Name, s.source.Node), keep)
	for _, name := range removed {
		s.log.Info("old snapshot removed", zap.String("name", name))
	}
	if err != nil {
		s.log.Warn("old snapshots not removed", zap.Error(err))
	}
}
