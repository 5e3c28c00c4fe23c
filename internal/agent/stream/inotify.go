package stream

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watcher tells that something in a directory changed.
type watcher struct {
	C    <-chan struct{} // never closed
	file *os.File
	done chan struct{}
}

// watchDir watches the files of one directory until Close.
func watchDir(dir string) (*watcher, error) {
	file, err := newInotify()
	if err != nil {
		return nil, err
	}
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE
	if _, err := addWatch(file, dir, mask); err != nil {
		file.Close()
		return nil, err
	}
	changes := make(chan struct{}, 1)
	w := &watcher{C: changes, file: file, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		buf := make([]byte, 4096)
		for {
			if _, err := file.Read(buf); err != nil {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return w, nil
}

// Close ends the watch and waits for its reader.
func (w *watcher) Close() error {
	err := w.file.Close()
	<-w.done
	return err
}

// newInotify opens an inotify instance whose reads end when it is closed.
func newInotify() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w; raise fs.inotify.max_user_instances", err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

func addWatch(file *os.File, path string, mask uint32) (int, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("use inotify: %w", err)
	}
	var wd int
	var addErr error
	if err := conn.Control(func(fd uintptr) { wd, addErr = unix.InotifyAddWatch(int(fd), path, mask) }); err != nil {
		return 0, fmt.Errorf("use inotify: %w", err)
	}
	if errors.Is(addErr, unix.ENOSPC) {
		return 0, fmt.Errorf("watch %s: %w; raise fs.inotify.max_user_watches", path, addErr)
	}
	if addErr != nil {
		return 0, fmt.Errorf("watch %s: %w", path, addErr)
	}
	return wd, nil
}
