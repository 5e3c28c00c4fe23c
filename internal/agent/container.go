package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/static"
	"github.com/skiff-sh/skiff/internal/agent/volume"
	"github.com/skiff-sh/skiff/internal/kind"
)

// build translates a container of a Pod into what the runtime takes. Its
// errors are mistakes in the Pod or missing objects: CreateContainerConfigError.
func (a *Agent) build(ctx context.Context, pod *corev1.Pod, box sandbox, c *corev1.Container, attempt int, image Image) (Container, error) {
	sec := effectiveSecurity(pod, c)
	if err := sec.checkNonRoot(pod, c, image.User); err != nil {
		return Container{}, err
	}
	hostname, err := kernelHostname(pod, a.ClusterDomain)
	if err != nil {
		return Container{}, err
	}
	if pod.Spec.HostNetwork {
		hostname, _ = os.Hostname()
	}
	env, err := a.podEnv(ctx, pod, box, c)
	if err != nil {
		return Container{}, err
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	mounts, err := a.mounts(pod, box, c, attempt, lookup)
	if err != nil {
		return Container{}, err
	}
	confined, err := appArmor(pod, c)
	if err != nil {
		return Container{}, err
	}
	out := Container{
		ID: newContainerID(), Name: c.Name, Attempt: attempt,
		Init:       isInit(pod, c),
		Pod:        a.podRef(pod),
		Image:      image,
		Args:       commandLine(c, image, lookup),
		Env:        environ(image.Env, hostname, c.TTY, env),
		WorkingDir: c.WorkingDir,
		Hostname:   hostname,
		Mounts:     mounts,
		User:       sec.user(image.User),

		Privileged:     isTrue(sec.Own.Privileged),
		ReadOnlyRootfs: isTrue(sec.Own.ReadOnlyRootFilesystem),
		NoNewPrivs:     sec.Own.AllowPrivilegeEscalation != nil && !*sec.Own.AllowPrivilegeEscalation,
		Seccomp:        sec.seccomp(filepath.Join(a.Host.DataDir, "agent", "seccomp"), a.Kubelet.Pods.SeccompDefault),
		AppArmor:       confined,
		MaskedPaths:    sec.Own.ProcMount == nil || *sec.Own.ProcMount == corev1.DefaultProcMount,
		Sysctls:        sysctls(pod),
		Resources:      containerResources(pod, c, a.machine.memory()),

		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		LogPath: a.logPath(pod, c.Name, attempt),
	}
	out.Pod.Handler = box.Handler
	out.Resources.Swap, out.Resources.OOMGroup = a.swapOf(pod, c), !a.Kubelet.Pods.KillOne
	if out.WorkingDir == "" {
		out.WorkingDir = image.WorkingDir
	}
	if caps := sec.Own.Capabilities; caps != nil {
		out.CapAdd, out.CapDrop = capabilities(caps.Add), capabilities(caps.Drop)
	}
	if len(out.Args) == 0 {
		return Container{}, fmt.Errorf("no command specified")
	}
	return out, nil
}

// isInit says whether the Pod waits for the container's end.
func isInit(pod *corev1.Pod, c *corev1.Container) bool {
	return !kind.IsSidecar(c) && slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
}

// podEnv builds a container's variables from a Pod as the API shows it, with
// the addresses it has by now.
func (a *Agent) podEnv(ctx context.Context, pod *corev1.Pod, box sandbox, c *corev1.Container) (map[string]string, error) {
	if !static.Is(pod) { // for those there may be no server
		select {
		case <-a.servicesSynced():
		case <-ctx.Done():
			return nil, fmt.Errorf("services have not yet been read at least once, cannot construct envvars")
		}
	}
	services, err := serviceEnv(pod, a.listServices)
	if err != nil {
		return nil, err
	}
	e := environment{Pod: pod, Container: c, Services: services, Objects: a.objects, Limits: a.machine.allocatable(), Volumes: box.Volumes}
	return e.build(ctx)
}

func (a *Agent) podRef(pod *corev1.Pod) PodRef {
	uid := string(pod.UID)
	ref := PodRef{
		UID: uid, Namespace: pod.Namespace, Name: pod.Name,
		NetNS: a.netPin(uid), IPCNS: a.ipcPin(uid), UTSNS: a.utsPin(uid),
		CgroupParent: a.Cgroups.Parent(podCgroup(pod)),
	}
	if pod.Spec.HostNetwork {
		ref.NetNS, ref.UTSNS = "", ""
	}
	if pod.Spec.HostIPC {
		ref.IPCNS = ""
	}
	if ownUsers(pod) {
		first, _ := a.users.Of(uid) // setUp has taken them
		ref.UserNS, ref.FirstID = a.userPin(uid), first
	}
	switch {
	case pod.Spec.HostPID:
		ref.PIDNS = "host"
	case isTrue(pod.Spec.ShareProcessNamespace):
		ref.PIDNS = SharedPIDs
	}
	return ref
}

// commandLine follows the rules of command and args over the image's
// entrypoint and command.
func commandLine(c *corev1.Container, image Image, lookup func(string) (string, bool)) []string {
	entry, args := c.Command, c.Args
	if len(entry) == 0 {
		entry = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	var out []string
	for _, s := range slices.Concat(entry, args) {
		out = append(out, s)
	}
	// Only what the Pod says is expanded; what the image says is literal.
	for i := range out {
		fromPod := i < len(entry) && len(c.Command) > 0 || i >= len(entry) && len(c.Args) > 0
		if fromPod {
			out[i] = expand(out[i], lookup)
		}
	}
	return out
}

// isFixed says whether the volume shows objects of the API or an image, which
// nobody writes from inside a container.
func isFixed(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == name && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil)
	}) || isImage(pod, name)
}

func isHostPath(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name && v.HostPath != nil })
}

func isImage(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name && v.Image != nil })
}

// mounts are the Pod's volumes, its files in /etc, shared memory and the
// termination message file.
func (a *Agent) mounts(pod *corev1.Pod, box sandbox, c *corev1.Container, attempt int, lookup func(string) (string, bool)) ([]Mount, error) {
	var out []Mount
	for i, m := range c.VolumeMounts {
		mode := propagation(m.MountPropagation)
		if mode != "private" && !isHostPath(pod, m.Name) {
			if err := a.volumes.Share(box.Volumes[m.Name]); err != nil {
				return nil, err
			}
		}
		source, err := a.mountSource(pod, box, c, i, lookup)
		if err != nil {
			return nil, err
		}
		recursive, err := recursivelyReadOnly(m, a.machine.RecursiveReadOnly)
		if err != nil {
			return nil, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
		}
		out = append(out, Mount{
			Source: source, Target: absolute(m.MountPath), ReadOnly: m.ReadOnly || isFixed(pod, m.Name),
			Recursive: recursive, Propagation: mode,
		})
	}
	dir := a.podDir(string(pod.UID))
	add := func(source, target string, readOnly bool) {
		if !slices.ContainsFunc(out, func(m Mount) bool { return m.Target == target }) {
			out = append(out, Mount{Source: source, Target: target, ReadOnly: readOnly, Propagation: "private"})
		}
	}
	add(filepath.Join(dir, "etc-hosts"), "/etc/hosts", false)
	add(filepath.Join(dir, "hostname"), "/etc/hostname", false)
	add(filepath.Join(dir, "resolv.conf"), "/etc/resolv.conf", false)
	if pod.Spec.HostIPC {
		add("/dev/shm", "/dev/shm", false)
	} else {
		add(filepath.Join(dir, "shm"), "/dev/shm", false)
	}
	if c.TerminationMessagePath != "" {
		file := a.terminationFile(string(pod.UID), c.Name, attempt)
		if err := volume.WriteIfChanged(file, nil, 0o666); err != nil {
			return nil, fmt.Errorf("make termination message file: %w", err)
		}
		add(file, absolute(c.TerminationMessagePath), false)
	}
	// A mount below another one comes after it.
	slices.SortStableFunc(out, func(x, y Mount) int {
		return strings.Count(filepath.Clean(x.Target), "/") - strings.Count(filepath.Clean(y.Target), "/")
	})
	return out, nil
}

func (a *Agent) mountSource(pod *corev1.Pod, box sandbox, c *corev1.Container, i int, lookup func(string) (string, bool)) (string, error) {
	m := c.VolumeMounts[i]
	source, ok := box.Volumes[m.Name]
	if !ok {
		return "", fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		unknown := ""
		sub = expand(m.SubPathExpr, func(name string) (string, bool) {
			v, ok := lookup(name)
			if !ok {
				unknown = name
			}
			return v, ok
		})
		if unknown != "" {
			return "", fmt.Errorf("missing value for %q", unknown)
		}
	}
	if sub == "" {
		return source, nil
	}
	bind := volume.SubPath{
		PodUID: string(pod.UID), Volume: m.Name, Container: c.Name, Index: i, Root: source, Path: sub,
		Image: isImage(pod, m.Name),
	}
	path, err := a.volumes.Bind(bind)
	if err != nil && bind.Image {
		return "", imageMountError(err)
	}
	return path, err
}

func absolute(path string) string {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path
}

func propagation(mode *corev1.MountPropagationMode) string {
	if mode != nil {
		switch *mode {
		case corev1.MountPropagationHostToContainer:
			return "rslave"
		case corev1.MountPropagationBidirectional:
			return "rshared"
		}
	}
	return "private"
}

func newContainerID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (a *Agent) logDir(namespace, name, uid string) string {
	return filepath.Join(a.Host.LogDir, namespace+"_"+name+"_"+uid)
}

func (a *Agent) logPath(pod *corev1.Pod, container string, attempt int) string {
	return filepath.Join(a.logDir(pod.Namespace, pod.Name, string(pod.UID)), container, strconv.Itoa(attempt)+".log")
}

func (a *Agent) terminationFile(uid, container string, attempt int) string {
	return filepath.Join(a.podDir(uid), "containers", container, strconv.Itoa(attempt))
}
