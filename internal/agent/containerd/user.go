package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/skiff-sh/skiff/internal/agent"
)

// resolveUser looks up what is named of a user in the container's own passwd
// and group files; numbers need none.
func resolveUser(root string, u agent.User) (agent.User, error) {
	if u.Spec == "" {
		return u, nil
	}
	passwd, err := readEtc(root, "passwd")
	if err != nil {
		return agent.User{}, err
	}
	group, err := readEtc(root, "group")
	if err != nil {
		return agent.User{}, err
	}
	found, err := user.GetExecUser(u.Spec, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return agent.User{}, err
	}
	out := agent.User{UID: int64(found.Uid), GID: int64(found.Gid), Groups: u.Groups}
	if u.Strict {
		return out, nil
	}
	name, _, _ := strings.Cut(u.Spec, ":")
	members, err := memberships(passwd, group, found.Uid, name)
	if err != nil {
		return agent.User{}, err
	}
	out.Groups = append(members, u.Groups...)
	return out, nil
}

// memberships returns the groups that list the user.
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

// maxEtc is the most bytes of such a file: we read it into our own memory.
const maxEtc = 1 << 20

// readEtc returns a file of an image, "" if there is none. The image is a
// stranger's: os.Root keeps links in it from leading out of it, and what is no
// plain file (a device without end, a FIFO that nobody writes) is not opened.
func readEtc(root, name string) (string, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	path := filepath.Join("etc", name)
	info, err := dir.Stat(path)
	if err != nil {
		return "", nil
	}
	if !info.Mode().IsRegular() || info.Size() > maxEtc {
		return "", fmt.Errorf("/%s of the image is no file of at most %d bytes", path, maxEtc)
	}
	data, err := dir.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read /%s of the image: %w", path, err)
	}
	return string(data), nil
}
