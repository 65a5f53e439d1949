package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// caFile is the root certificate of the demo's own authority.
func (d *demo) caFile() string { return d.path("caddy/pki/authorities/local/root.crt") }

// awaitReady returns when every site answers over TLS 1.3 with a certificate of the demo's own
// authority, or with what it last saw after a minute.
func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	targets := map[string]int{
		d.address("localhost") + "/":                     http.StatusOK,
		fmt.Sprintf("https://localhost:%d/", d.hmacPort): http.StatusNotFound,
	}
	for _, a := range apps {
		targets[d.address(a.name+".localhost")+"/"] = http.StatusUnauthorized
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := fmt.Errorf("nothing answered yet")
	for len(targets) > 0 {
		for url, want := range targets {
			if err := d.probe(ctx, url, want); err != nil {
				last = err
				break
			}
			delete(targets, url)
		}
		if len(targets) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until everything answers: %w", last)
		case <-tick.C:
		}
	}
	return nil
}

func (d *demo) probe(ctx context.Context, url string, want int) error {
	root, err := os.ReadFile(d.caFile())
	if err != nil {
		return fmt.Errorf("reading the demo's root certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13},
		// The names below localhost need no resolver: all of them are this machine.
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	res, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != want {
		return fmt.Errorf("%s answered %d instead of %d", url, res.StatusCode, want)
	}
	return nil
}
