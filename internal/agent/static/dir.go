package static

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// maxFile is the most that a file may have.
const maxFile = 10 << 20

// Dir is a directory of static Pods. Its methods are for one goroutine.
type Dir struct {
	Path string
	Node string
	// Trouble is told of a file that describes no Pod, once for each reason.
	Trouble func(path string, err error)

	files map[string]file
}

// file is what is known of one.
type file struct {
	pods    []*corev1.Pod // what it last described
	trouble string
}

// Pods reads the directory. A file that has become wrong keeps describing what it did
// before; without the directory there are none. Of two Pods of one name that of the first file counts.
func (d *Dir) Pods() ([]*corev1.Pod, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read static pods: %w", err)
	}
	known := d.files
	d.files = map[string]file{}
	var all []*corev1.Pod
	names := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(d.Path, e.Name())
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		f := file{pods: known[path].pods, trouble: known[path].trouble}
		pods, err := d.read(path)
		if err == nil {
			f = file{pods: pods}
		} else if !errors.Is(err, os.ErrNotExist) && err.Error() != f.trouble {
			f.trouble = err.Error()
			d.Trouble(path, err)
		}
		d.files[path] = f
		for _, pod := range f.pods {
			name := pod.Namespace + "/" + pod.Name
			if _, taken := names[name]; !taken {
				names[name] = path
				all = append(all, pod)
			}
		}
	}
	return all, nil
}

func (d *Dir) read(path string) ([]*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("expected a plain file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("it has %d bytes, expected at most %d", info.Size(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Read(path, data, d.Node)
}

// Watch makes the directory if need be and calls changed whenever it may hold other
// Pods, until the context ends.
func Watch(ctx context.Context, dir string, changed func()) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	const interest = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, interest); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer stop()
	changed()
	buffer := make([]byte, 64<<10)
	for {
		if _, err := events.Read(buffer); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		changed()
	}
}
