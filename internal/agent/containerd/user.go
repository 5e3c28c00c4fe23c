package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"

	"github.com/skiff-sh/skiff/internal/agent"
)

// userCache remembers what names mean in images, which never change.
type userCache struct {
	mu    sync.Mutex // of known
	known map[[2]string]agent.User
}

// User resolves what an image or a Pod says of a user ("", "name", "1000",
// "name:group", "1000:1000") by the image's own passwd and group files, with
// the groups that list the user as a member.
func (r *Runtime) User(ctx context.Context, image agent.Image, spec string) (agent.User, error) {
	key := [2]string{image.RootFSChain, spec}
	r.users.mu.Lock()
	defer r.users.mu.Unlock()
	if u, ok := r.users.known[key]; ok {
		return u, nil
	}
	var u agent.User
	err := r.withImage(ctx, image, func(root string) (err error) {
		u, err = resolveUser(root, spec)
		return err
	})
	if err != nil {
		return agent.User{}, fmt.Errorf("user %q of image %s: %w", spec, image.Ref, err)
	}
	if r.users.known == nil {
		r.users.known = map[[2]string]agent.User{}
	}
	r.users.known[key] = u
	return u, nil
}

// withImage mounts an image's file system, read-only, while fn runs.
func (r *Runtime) withImage(ctx context.Context, image agent.Image, fn func(root string) error) (err error) {
	ctx = r.scope(ctx)
	ctx, done, err := r.store.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	snapshotter := r.store.client.SnapshotService(r.store.snapshotter)
	key := "users-" + r.execs.next()
	mounts, err := snapshotter.View(ctx, key, image.RootFSChain)
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := snapshotter.Remove(context.WithoutCancel(ctx), key); !errdefs.IsNotFound(removeErr) {
			err = errors.Join(err, removeErr)
		}
	}()
	dir, err := os.MkdirTemp(filepath.Dir(r.podsDir()), "users-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := mount.All(mounts, dir); err != nil {
		return err
	}
	return errors.Join(fn(dir), mount.UnmountAll(dir, 0))
}

// resolveUser reads the files below root, which may be absent: numbers need
// none. os.Root keeps links in an image from leading out of it.
func resolveUser(root, spec string) (agent.User, error) {
	passwd, group := readEtc(root, "passwd"), readEtc(root, "group")
	u, err := user.GetExecUser(spec, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return agent.User{}, err
	}
	out := agent.User{UID: int64(u.Uid), GID: int64(u.Gid)}
	// GetExecUser leaves memberships out where the group was named.
	name, _, _ := strings.Cut(spec, ":")
	members, err := memberships(passwd, group, u.Uid, name)
	if err != nil {
		return agent.User{}, err
	}
	out.Groups = members
	return out, nil
}

func memberships(passwd, group string, uid int, name string) ([]int64, error) {
	names := map[string]bool{}
	if _, err := strconv.Atoi(name); err != nil && name != "" {
		names[name] = true
	}
	users, err := user.ParsePasswdFilter(strings.NewReader(passwd), func(u user.User) bool { return u.Uid == uid })
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		names[u.Name] = true
	}
	var gids []int64
	_, err = user.ParseGroupFilter(strings.NewReader(group), func(g user.Group) bool {
		for _, member := range g.List {
			if names[member] {
				gids = append(gids, int64(g.Gid))
				break
			}
		}
		return false
	})
	return gids, err
}

func readEtc(root, name string) string {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer dir.Close()
	data, err := dir.ReadFile(filepath.Join("etc", name))
	if err != nil {
		return ""
	}
	return string(data)
}
