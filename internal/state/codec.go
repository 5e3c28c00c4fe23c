package state

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// message is what the generated types of k8s.io/api offer.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// encode returns the stored form of obj, whose resourceVersion it clears: the
// record's revision is the truth.
func encode(k *kind.Kind, obj kind.Object) ([]byte, error) {
	m, ok := obj.(message)
	if !ok {
		return nil, fmt.Errorf("encode %s: %T has no protobuf form", k.Kind, obj)
	}
	obj.SetResourceVersion("")
	value, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", k.Kind, objectKey(obj.GetNamespace(), obj.GetName()), err)
	}
	return value, nil
}

// decode returns the object of a record, its TypeMeta and resourceVersion set.
func decode(k *kind.Kind, record *store.Record) (kind.Object, error) {
	obj := k.New()
	m, ok := obj.(message)
	if !ok {
		return nil, fmt.Errorf("decode %s: %T has no protobuf form", record.Key, obj)
	}
	if err := m.Unmarshal(record.Value); err != nil {
		return nil, fmt.Errorf("decode %s at revision %d: %w; "+
			"run `skiff store check` to see what is lost, then `skiff snapshot restore` or `skiff store salvage`; or delete the record",
			record.Key, record.Revision, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(k.GVK())
	setRevision(obj, record.Revision)
	return obj, nil
}

func setRevision(obj kind.Object, revision store.Revision) {
	obj.SetResourceVersion(strconv.FormatInt(int64(revision), 10))
}

// shallowCopy returns an object of its own whose metadata's top level may be
// changed; all below is shared, and constant.
func shallowCopy(obj kind.Object) kind.Object {
	from := reflect.ValueOf(obj).Elem()
	to := reflect.New(from.Type())
	to.Elem().Set(from)
	return to.Interface().(kind.Object)
}

// loadChunk is how many records one worker decodes at a time.
const loadChunk = 128

// load fills the work trees from the engine, decoding on all cores.
func (s *State) load(ctx context.Context) error {
	for _, t := range s.tables {
		if err := t.load(ctx, s.engine); err != nil {
			return err
		}
	}
	buckets, err := s.engine.Buckets(ctx)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		name, ok := strings.CutPrefix(bucket, claimPrefix)
		if !ok {
			continue
		}
		tree := &claimTree{}
		s.claims[name] = tree
		err := s.engine.Scan(ctx, bucket, func(r store.Record) error {
			tree.Set(r.Key.Name, string(r.Value))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// load reads the kind's bucket.
func (t *table) load(ctx context.Context, engine store.Engine) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	var chunks [][]store.Record
	var decoded [][]*entry
	start := func(chunk []store.Record) {
		entries := make([]*entry, len(chunk))
		chunks, decoded = append(chunks, chunk), append(decoded, entries)
		group.Go(func() error {
			for i := range chunk {
				obj, err := decode(t.kind, &chunk[i])
				if err != nil {
					return err
				}
				entries[i] = &entry{object: obj, revision: chunk[i].Revision, bytes: len(chunk[i].Value)}
				chunk[i].Value = nil
			}
			return nil
		})
	}
	var chunk []store.Record
	err := engine.Scan(ctx, t.kind.Bucket(), func(r store.Record) error {
		if chunk = append(chunk, r); len(chunk) == loadChunk {
			start(chunk)
			chunk = nil
		}
		return nil
	})
	start(chunk)
	// A worker's error ends the scan by its context: tell the cause.
	if failed := group.Wait(); failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	for i, entries := range decoded {
		for j, e := range entries {
			t.work.set(chunks[i][j].Key.Name, e)
		}
	}
	return nil
}
