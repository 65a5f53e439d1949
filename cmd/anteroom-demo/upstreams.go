package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/careconnect"
	"github.com/anteroom-proxy/anteroom/upstreams/eps"
	"github.com/anteroom-proxy/anteroom/upstreams/fincare"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/medicloud"
	"github.com/anteroom-proxy/anteroom/upstreams/medrecords"
)

// startUpstreams starts the provider, the five apps and the start page, each on a free loopback
// port, as if an operator had them running before.
func (d *demo) startUpstreams() error {
	d.upstreams = map[string]string{}
	port, err := freePort()
	if err != nil {
		return err
	}
	d.hmacPort = port
	if err := d.startProvider(); err != nil {
		return fmt.Errorf("starting the OpenID Provider: %w", err)
	}
	if err := d.serve("start", d.startHandler()); err != nil {
		return fmt.Errorf("starting the start page: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, a := range apps {
		h, err := d.newApp(a.name, log.With("app", a.name))
		if err == nil {
			err = d.serve(a.name, h)
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", a.title, err)
		}
	}
	return nil
}

func (d *demo) newApp(name string, log *slog.Logger) (http.Handler, error) {
	dir := d.path("apps/" + name)
	switch name {
	case "careconnect":
		return careconnect.New(careconnect.Config{
			Dir: dir, Logger: log, TokenFile: d.path("hmac.token"), CAFile: d.caFile(),
			HMACURL: fmt.Sprintf("https://localhost:%d/hmac-service", d.hmacPort),
		})
	case "fincare":
		return fincare.New(fincare.Config{Dir: dir, Logger: log})
	case "medrecords":
		return medrecords.New(medrecords.Config{Dir: dir, Logger: log})
	case "eps":
		return eps.New(eps.Config{Dir: dir, Logger: log})
	case "medicloud":
		app, err := medicloud.New(medicloud.Config{
			Dir: dir, Logger: log, TokenFile: d.path("envelope.token"), CAFile: d.caFile(),
			VaultURL: fmt.Sprintf("https://localhost:%d/envelope-service", d.hmacPort),
		})
		if err != nil {
			return nil, err
		}
		d.documents = app
		return app, nil
	}
	return nil, fmt.Errorf("no app is called %q", name)
}

// startProvider listens first, because the issuer's name contains the port.
func (d *demo) startProvider() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.issuer = "http://" + l.Addr().String()
	client := idp.Client{ID: "anteroom-demo", Secret: d.clientSecret}
	for _, a := range apps {
		client.RedirectURIs = append(client.RedirectURIs, d.address(a.name+".localhost")+"/.anteroom/callback/demo")
	}
	provider, err := idp.New(idp.Config{Issuer: d.issuer, Title: "Demo sign-in", Clients: []idp.Client{client}, Users: idp.DemoUsers()})
	if err != nil {
		_ = l.Close() // the error that matters is the provider's
		return err
	}
	d.serveOn(l, provider)
	return nil
}

// serve starts a handler on a free loopback port and remembers its address under name.
func (d *demo) serve(name string, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.upstreams[name] = l.Addr().String()
	d.serveOn(l, h)
	return nil
}

func (d *demo) serveOn(l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	d.servers = append(d.servers, srv)
	go func() { _ = srv.Serve(l) }() // ends with close
}

// freePort finds a port for the listener of /hmac-service, which Caddy opens.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
