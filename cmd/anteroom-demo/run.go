package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/caddymodule"
	"github.com/anteroom-proxy/anteroom/upstreams/medicloud"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// run starts everything, says where it is, and stops when ctx ends.
func run(ctx context.Context, o options, out io.Writer) error {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for the state: %w", err)
	}
	hosts := loopbackHosts()
	if err := portsFree(hosts, o.port); err != nil {
		return err
	}
	d := &demo{options: o, hosts: hosts}
	if err := d.secrets(); err != nil {
		return err
	}
	defer d.close()
	if err := d.startUpstreams(); err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(d.caddyfile()), map[string]any{"filename": "demo"})
	if err != nil {
		return fmt.Errorf("preparing the config: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	defer func() { _ = caddy.Stop() }()
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	work, end := context.WithCancel(ctx)
	defer end()
	d.tasks.Go(func() { d.documents.Run(work) }) // not before: it needs the service that Caddy has just brought up
	fmt.Fprintf(out, "%s\n\nOpen it in a browser. People: patient, doctor, finance, external, nobody; each has the own name as password.\nState and logs: %s\nStop with Ctrl-C.\n", d.address("localhost"), o.dir)
	if o.readyFile != "" {
		if err := writeFile(o.readyFile, d.address("localhost")+"\n"); err != nil {
			return fmt.Errorf("writing the ready file: %w", err)
		}
	}
	if !o.noBrowser {
		openBrowser(d.address("localhost"))
	}
	<-ctx.Done()
	return nil
}

// demo is what one run holds.
type demo struct {
	options
	hosts        []string // loopback addresses to listen on
	clientSecret string
	recovery     string // public half of the recovery key
	hmacPort     int
	issuer       string
	upstreams    map[string]string // app → 127.0.0.1:port
	servers      []*http.Server
	documents    *medicloud.App
	tasks        sync.WaitGroup
}

func (d *demo) address(host string) string { return fmt.Sprintf("https://%s:%d", host, d.port) }

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// loopbackHosts are the loopback addresses that this machine has.
func loopbackHosts() []string {
	hosts := []string{"127.0.0.1"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = l.Close()
		hosts = append(hosts, "::1")
	}
	return hosts
}

func portsFree(hosts []string, port int) error {
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, fmt.Sprint(port)))
		if err != nil {
			return fmt.Errorf("listening on port %d: %w; stop what uses it or choose another with --port", port, err)
		}
		_ = l.Close()
	}
	return nil
}

// secrets makes what the demo needs to keep: the tokens of the local services and the recovery key at
// first start, the provider's client secret anew at each.
func (d *demo) secrets() error {
	d.clientSecret = random()
	if err := os.Setenv("ANTEROOM_DEMO_CLIENT_SECRET", d.clientSecret); err != nil {
		return fmt.Errorf("handing over the client secret: %w", err)
	}
	for _, name := range []string{"hmac.token", "envelope.token"} {
		if _, err := os.Stat(d.path(name)); errors.Is(err, fs.ErrNotExist) {
			if err := writeFile(d.path(name), random()+"\n"); err != nil {
				return fmt.Errorf("writing the token of a local service: %w", err)
			}
		}
	}
	text, err := os.ReadFile(d.path("recovery.pub"))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = d.makeRecoveryKey()
	}
	if err != nil {
		return fmt.Errorf("keeping the recovery key: %w", err)
	}
	d.recovery = strings.TrimSpace(string(text))
	return nil
}

// makeRecoveryKey makes the pair at first start. A secret half without its public one is left from a
// start that was cut short; no ring knows it.
func (d *demo) makeRecoveryKey() ([]byte, error) {
	if err := os.Remove(d.path("recovery.key")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	public, err := caddymodule.MakeRecoveryKey(d.path("recovery.key"), false)
	if err != nil {
		return nil, err
	}
	return []byte(public), writeFile(d.path("recovery.pub"), public+"\n")
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// writeFile writes a file of mode 0600 whole or not at all.
func writeFile(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".anteroom-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.WriteString(text); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// close stops the sample applications and the provider.
func (d *demo) close() {
	d.tasks.Wait() // their context has ended
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range d.servers {
		_ = s.Shutdown(ctx)
	}
}
