// A device plugin that offers devices which are not there, so that GPUs can be asked for, run out and break where there
// are none. The kubelet cannot tell: it allocates them, counts them on the node, and tells pods when one is broken.
//
// It does what plugins of vendors do: it serves the device plugin API on a socket of its own, registers there with the
// kubelet, streams the list of devices whenever it changes, and registers again when the kubelet was started again
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/).
//
// A device is unhealthy while a file with its id is in the folder `broken` beside the socket.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// plugin offers the devices of one resource.
type plugin struct {
	api.UnimplementedDevicePluginServer
	resource string
	ids      []string
	// The folder of the kubelet's socket and of ours.
	folder string
	// Has something to read when the health of devices may have changed.
	changed chan struct{}
}

func main() {
	log.SetFlags(0)
	resource := setting("RESOURCE", "nvidia.com/gpu")
	count, err := strconv.Atoi(setting("COUNT", "1"))
	if err != nil || count < 0 {
		log.Fatalf("COUNT must be a number of devices: %q", os.Getenv("COUNT"))
	}
	context, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := newPlugin(resource, count, setting("FOLDER", api.DevicePluginPath)).run(context); err != nil {
		log.Fatal(err)
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func newPlugin(resource string, count int, folder string) *plugin {
	made := &plugin{resource: resource, folder: folder, changed: make(chan struct{}, 1)}
	for index := range count {
		made.ids = append(made.ids, fmt.Sprintf("fake-%d", index))
	}
	return made
}

// run serves until the context ends. Whatever happens to a socket means: begin again.
func (p *plugin) run(context context.Context) error {
	broken := filepath.Join(p.folder, "broken")
	if err := os.MkdirAll(broken, 0o755); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	for _, folder := range []string{p.folder, broken} {
		if err := watcher.Add(folder); err != nil {
			return err
		}
	}
	for context.Err() == nil {
		if err := p.serve(context, watcher); err != nil {
			log.Printf("begins again: %v", err)
			select {
			case <-context.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

// serve offers the devices until the kubelet is another one than before.
func (p *plugin) serve(context context.Context, watcher *fsnotify.Watcher) error {
	endpoint := strings.NewReplacer("/", "-", ".", "-").Replace(p.resource) + ".sock"
	socket := filepath.Join(p.folder, endpoint)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	api.RegisterDevicePluginServer(server, p)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	kubelet := filepath.Join(p.folder, "kubelet.sock")
	if err := register(context, kubelet, endpoint, p.resource); err != nil {
		return err
	}
	log.Printf("%s: %d devices", p.resource, len(p.ids))
	for {
		select {
		case <-context.Done():
			return nil
		case err := <-ended:
			return err
		case event := <-watcher.Events:
			switch {
			case event.Name == kubelet && event.Has(fsnotify.Create):
				return fmt.Errorf("the kubelet was started again")
			case filepath.Dir(event.Name) != p.folder:
				p.tell()
			}
		}
	}
}

func register(context context.Context, kubelet, endpoint, resource string) error {
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(context, &api.RegisterRequest{
		Version: api.Version, Endpoint: endpoint, ResourceName: resource,
	})
	return err
}

func (p *plugin) tell() {
	select {
	case p.changed <- struct{}{}:
	default: // It is going to look anyway.
	}
}

// devices says how each of them is.
func (p *plugin) devices() []*api.Device {
	var devices []*api.Device
	for _, id := range p.ids {
		health := api.Healthy
		if _, err := os.Stat(filepath.Join(p.folder, "broken", id)); err == nil {
			health = api.Unhealthy
		}
		devices = append(devices, &api.Device{ID: id, Health: health})
	}
	return devices
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		if err := stream.Send(&api.ListAndWatchResponse{Devices: p.devices()}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-p.changed:
		}
	}
}

// Allocate gives the container what the plugin of NVIDIA gives it: the variable that names its devices, and a file for
// each of them.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		given := &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		}
		for _, id := range container.DevicesIds {
			if !slices.Contains(p.ids, id) {
				return nil, fmt.Errorf("there is no device %q", id)
			}
			path := "/dev/" + strings.Replace(id, "fake-", "nvidia", 1)
			given.Devices = append(given.Devices, &api.DeviceSpec{ContainerPath: path, HostPath: "/dev/null", Permissions: "rw"})
		}
		log.Printf("allocates %s", strings.Join(container.DevicesIds, ","))
		response.ContainerResponses = append(response.ContainerResponses, given)
	}
	return response, nil
}
