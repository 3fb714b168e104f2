// Lists the pods, creates a ConfigMap, watches it change, sees what errors look like, and deletes it again:
//
//	go run ./example 10.77.0.2:6440 ca.pem client.pem client.key
//	go run ./example unix:/run/podwire/api.sock
//
// podwirev1 is generated from the protos: see docs/clients/go.md.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	podwirev1 "podwire.io/api/podwire/v1"
)

const (
	namespace = "default"
	name      = "from-go"
)

func main() {
	connection, err := connect(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := example(ctx, connection); err != nil {
		log.Fatal(err)
	}
}

func connect(arguments []string) (*grpc.ClientConn, error) {
	security := grpc.WithInsecure() // A unix socket: its file's permissions say who may use it.
	if len(arguments) == 4 {
		pair, err := tls.LoadX509KeyPair(arguments[2], arguments[3])
		if err != nil {
			return nil, err
		}
		pem, err := os.ReadFile(arguments[1])
		if err != nil {
			return nil, err
		}
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM(pem)
		security = grpc.WithTransportCredentials(
			credentials.NewTLS(&tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{pair}}))
	}
	// As the Python client's: a dead peer is noticed within 10 s, pages and batches fit.
	return grpc.Dial(arguments[0], security,
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 4 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)))
}

func example(ctx context.Context, connection *grpc.ClientConn) error {
	pods := podwirev1.NewPodsClient(connection)
	configMaps := podwirev1.NewConfigMapsClient(connection)

	listedPods, err := pods.List(ctx, &podwirev1.ListRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	fmt.Printf("pods: %d at revision %s\n", len(listedPods.Items), listedPods.Metadata.ResourceVersion)

	create := &podwirev1.ConfigMapCreateRequest{Object: &podwirev1.ConfigMap{
		Metadata: &podwirev1.ObjectMeta{Name: name, Namespace: namespace},
		Data:     map[string]string{"colour": "red"},
	}}
	created, err := configMaps.Create(ctx, create)
	if err != nil {
		return err
	}
	fmt.Printf("created %s\n", created.Metadata.Name)

	// The list says where history goes on; the watch tells everything after that.
	listed, err := configMaps.List(ctx, &podwirev1.ListRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	watching, err := configMaps.Watch(ctx, &podwirev1.WatchRequest{
		Namespace:       namespace,
		FieldSelector:   "metadata.name=" + name,
		ResourceVersion: listed.Metadata.ResourceVersion,
		Epoch:           listed.Metadata.Epoch,
	})
	if err != nil {
		return err
	}
	if _, err := configMaps.Patch(ctx, &podwirev1.PatchRequest{
		Namespace: namespace, Name: name, Type: "merge", Patch: []byte(`{"data": {"colour": "blue"}}`),
	}); err != nil {
		return err
	}
	change, err := nextChange(watching)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s: %s\n", change.Type, change.Object.Metadata.Name, change.Object.Data["colour"])

	_, err = configMaps.Create(ctx, create)
	tell("a second one of that name", err)
	_, err = configMaps.Get(ctx, &podwirev1.GetRequest{Namespace: namespace, Name: "nobody"})
	tell("one that is not there", err)
	_, err = pods.Create(ctx, &podwirev1.PodCreateRequest{Object: &podwirev1.Pod{
		Metadata: &podwirev1.ObjectMeta{Name: "Wrong", Namespace: namespace}, Spec: &podwirev1.PodSpec{},
	}})
	tell("a pod without containers", err)

	if _, err := configMaps.Delete(ctx, &podwirev1.DeleteRequest{Namespace: namespace, Name: name}); err != nil {
		return err
	}
	fmt.Printf("deleted %s\n", name)
	return nil
}

func nextChange(watching podwirev1.ConfigMaps_WatchClient) (*podwirev1.ConfigMapWatchEvent, error) {
	for {
		response, err := watching.Recv()
		if err != nil {
			return nil, err
		}
		for _, event := range response.Events {
			if event.Type != "BOOKMARK" {
				return event, nil
			}
		}
	}
}

// tell prints the reason of an error, as docs/api/errors.md lists them, and the fields that are wrong.
func tell(what string, err error) {
	failed := status.Convert(err)
	reason, fields := "", []string{}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	fmt.Println(strings.TrimSpace(fmt.Sprintf("%s: %s (%s) %s", what, reason, failed.Code(), strings.Join(fields, ", "))))
}
