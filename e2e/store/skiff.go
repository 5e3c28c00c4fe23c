package main

import (
	"context"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// bucket is where skiff's objects are.
const bucket = "things"

// skiff is skiff's store, in this process as in a server.
type skiff struct {
	engine    *bolt.Engine
	revisions []store.Revision // of each object
}

func openSkiff(path string, objects int) (*skiff, error) {
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return nil, err
	}
	return &skiff{engine, make([]store.Revision, objects)}, nil
}

func (s *skiff) name() string   { return "skiff" }
func (s *skiff) pids() []int    { return nil }
func (s *skiff) commits() int64 { return s.engine.Stats().Commits }

func (s *skiff) update(ctx context.Context, i int, value []byte) error {
	revisions, err := s.engine.Commit(ctx, []store.Op{{
		Key: skiffKey(i), Action: store.Put, Expect: s.revisions[i], Value: value,
	}})
	if err != nil {
		return err
	}
	s.revisions[i] = revisions[0]
	return nil
}

func skiffKey(i int) store.Key { return store.Key{Bucket: bucket, Name: objectName(i)} }

func (s *skiff) close() error { return s.engine.Close() }
