package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// finding is one line of `doctor`.
type finding struct {
	State  string `json:"state"` // ok, warn or fail
	About  string `json:"about"` // "provider hospital"
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"
)

const (
	// doctorTimeout bounds the whole of what is asked over the network.
	doctorTimeout = 20 * time.Second
	// expiresSoon is when a certificate should have been renewed: public ones are renewed a third of their life before their end.
	expiresSoon = 14 * 24 * time.Hour
	// clockApart is how far Redis' clock may be from this machine's before an operator should know.
	clockApart = 5 * time.Second
	// probeSize is what must fit on the disk: a few hours of audit log.
	probeSize = 4 << 20
)

// diagnoser is a way to sign in that can say what is wrong with its provider.
type diagnoser interface {
	Diagnose(context.Context) []oidc.Finding
}

// diagnose looks at everything that a running Anteroom needs, in the order in which one thing needs the other. It changes nothing
// that lasts, and needs no running server.
func diagnose(ctx context.Context, config []byte) []finding {
	app, web, all := examineConfig(config)
	all = append(all, examineAdmin(config)...)
	if app == nil {
		return all
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	parts := []func() []finding{
		func() []finding { return examineProviders(ctx, app) },
		func() []finding { return examineStore(ctx, app) },
		func() []finding { return examineMaster(ctx, app) },
		func() []finding { return examineAudit(app) },
		func() []finding { return examineCertificates(ctx, web) },
	}
	found := make([][]finding, len(parts))
	var group sync.WaitGroup
	for i, part := range parts {
		group.Go(func() { found[i] = part() })
	}
	group.Wait()
	return slices.Concat(append([][]finding{all}, found...)...)
}

// examineConfig says whether the config would load, and reads the two apps that matter out of it.
func examineConfig(config []byte) (*App, *caddyhttp.App, []finding) {
	var cfg caddy.Config
	var parts struct {
		Apps struct {
			Anteroom *App            `json:"anteroom"`
			HTTP     *caddyhttp.App  `json:"http"`
			TLS      json.RawMessage `json:"tls"`
		} `json:"apps"`
	}
	if err := errors.Join(json.Unmarshal(config, &cfg), json.Unmarshal(config, &parts)); err != nil {
		return nil, nil, []finding{{stateFail, "config", "it cannot be read: " + err.Error(), "run `anteroom adapt --config FILE --validate`"}}
	}
	if parts.Apps.Anteroom == nil {
		return nil, nil, []finding{{stateFail, "config", "it has no global option `anteroom`, so that nobody signs in", "write one at the top of the Caddyfile"}}
	}
	if parts.Apps.HTTP == nil {
		parts.Apps.HTTP = new(caddyhttp.App)
	}
	if err := caddy.Validate(&cfg); err != nil {
		return parts.Apps.Anteroom, parts.Apps.HTTP, []finding{{stateFail, "config", "it does not load: " + err.Error(), "mend what the message names"}}
	}
	return parts.Apps.Anteroom, parts.Apps.HTTP, []finding{{stateOK, "config", "it loads", ""}}
}

// examineProviders asks each provider what a sign-in would need of it, all at once.
func examineProviders(ctx context.Context, app *App) []finding {
	quiet, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	found := make([][]finding, len(app.IdentityRaw)+len(app.Bearer))
	var group sync.WaitGroup
	for i, raw := range app.IdentityRaw {
		group.Go(func() { found[i] = examineProvider(quiet, raw) })
	}
	for i, b := range app.Bearer {
		group.Go(func() { found[len(app.IdentityRaw)+i] = examineIssuer(quiet, b) })
	}
	group.Wait()
	return slices.Concat(found...)
}

func examineProvider(ctx caddy.Context, raw json.RawMessage) []finding {
	var o OIDC
	if err := json.Unmarshal(raw, &o); err != nil {
		return []finding{{stateFail, "provider", "its block cannot be read: " + err.Error(), ""}}
	}
	about := "provider " + o.Name
	err := o.Provision(ctx)
	if err = errors.Join(err, o.broken); err != nil {
		return []finding{{stateFail, about, err.Error(), "mend the line or put the file there"}}
	}
	d, ok := o.source.(diagnoser)
	if !ok {
		return nil
	}
	return findings(about, d.Diagnose(ctx))
}

func examineIssuer(ctx caddy.Context, b *BearerIssuer) []finding {
	about := "bearer " + b.Name
	err := b.provision(ctx)
	if err = errors.Join(err, b.broken); err != nil {
		return []finding{{stateFail, about, err.Error(), "mend the line or put the file there"}}
	}
	if err := b.issuer.Ready(ctx); err != nil {
		return []finding{{stateFail, about, err.Error(), "see that the authorization server runs and that `issuer` is spelled as it spells itself"}}
	}
	return []finding{{stateOK, about, "its keys can be had", ""}}
}

// findings puts a provider's answers into lines: what is wrong each by itself, what is well in one.
func findings(about string, found []oidc.Finding) []finding {
	var lines []finding
	var well []string
	for _, f := range found {
		if f.OK {
			well = append(well, f.What)
			continue
		}
		lines = append(lines, finding{stateFail, about, f.What, f.Remedy})
	}
	if len(well) > 0 {
		lines = append(lines, finding{stateOK, about, strings.Join(well, "; "), ""})
	}
	return lines
}

// examineStore looks whether the store could be opened.
func examineStore(ctx context.Context, app *App) []finding {
	directory := app.Directory
	if directory == "" {
		directory = filepath.Join(caddy.AppDataDir(), "anteroom")
	}
	all := []finding{examineDirectory("store", directory)}
	key, db := filepath.Join(directory, "master.key"), filepath.Join(directory, "store.db")
	if exists(db) && !exists(key) && app.MasterRaw == nil {
		all = append(all, finding{stateFail, "store", "the master key " + key + " is missing, but the store that it sealed is there", "put the key back from a backup"})
	}
	var named struct {
		Module string `json:"module"`
	}
	if app.StoreRaw == nil || json.Unmarshal(app.StoreRaw, &named) != nil || named.Module != "redis" {
		return all
	}
	var r Redis
	if err := json.Unmarshal(app.StoreRaw, &r); err != nil {
		return append(all, finding{stateFail, "store", "its block cannot be read: " + err.Error(), ""})
	}
	return append(all, examineRedis(ctx, r)...)
}

func examineRedis(ctx context.Context, r Redis) []finding {
	fail := func(err error) []finding {
		return []finding{{stateFail, "store", err.Error(), "see that Redis runs and that address, user, password and certificates are right"}}
	}
	c, err := r.config(slog.New(slog.DiscardHandler))
	if err != nil {
		return fail(err)
	}
	before := time.Now()
	theirs, err := redis.Look(ctx, c)
	if err != nil {
		return fail(err)
	}
	all := []finding{{stateOK, "store", "Redis answers", ""}}
	now := time.Now()
	if apart := max(theirs.Sub(now), before.Sub(theirs)); apart > clockApart {
		return append(all, finding{stateFail, "clock", fmt.Sprintf("Redis' clock differs from this machine's by %s", apart.Round(time.Second)), "run NTP on both machines; at 30 s everybody is refused"})
	}
	return append(all, finding{stateOK, "clock", "as Redis' clock", ""})
}

// examineDirectory looks whether a folder can hold what is written into it. It leaves nothing there, and makes none.
func examineDirectory(about, dir string) finding {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{stateWarn, about, dir + " is not there yet", "it is made at the first start; run that as the user that will own it"}
	case err != nil:
		return finding{stateFail, about, err.Error(), "run doctor as the user that Anteroom runs as"}
	case !info.IsDir():
		return finding{stateFail, about, dir + " is a file", "name a folder in the config"}
	case info.Mode().Perm()&0o077 != 0:
		return finding{stateWarn, about, dir + " can be read by other users of this machine", "chmod 700 " + dir}
	}
	f, err := os.CreateTemp(dir, ".doctor-")
	if err == nil {
		_, err = f.Write(make([]byte, probeSize))
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		return finding{stateFail, about, "nothing can be written to " + dir + ": " + err.Error(), "free space on the disk, or run doctor as the user that Anteroom runs as"}
	}
	return finding{stateOK, about, dir + " can be written to", ""}
}

func examineAudit(app *App) []finding {
	switch app.Audit {
	case "off":
		return []finding{{stateWarn, "audit", "the audit log is off: nobody will be able to tell who read what", "remove `audit off`"}}
	case "":
		return nil // a folder of the store's directory
	}
	return []finding{examineDirectory("audit", app.Audit)}
}

// examineCertificates shakes hands with each gated site, as a browser on this machine would.
func examineCertificates(ctx context.Context, web *caddyhttp.App) []finding {
	var all []finding
	for _, srv := range web.Servers {
		places, _ := surveyServer("", srv) // whether the config would load was said before
		for _, p := range places {
			for _, host := range p.hosts {
				all = append(all, examineCertificate(ctx, srv, host))
			}
		}
	}
	slices.SortFunc(all, func(a, b finding) int { return strings.Compare(a.About, b.About) })
	return all
}

func examineCertificate(ctx context.Context, srv *caddyhttp.Server, host string) finding {
	about := "certificate " + host
	address := dialable(srv.Listen)
	if address == "" {
		return finding{stateWarn, about, "the site listens at no address that could be tried", ""}
	}
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} // judged below
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return finding{stateWarn, about, "no handshake at " + address + ": " + err.Error(), "start Anteroom, then run doctor again"}
	}
	defer conn.Close()
	return judgeCertificate(about, host, conn.(*tls.Conn).ConnectionState().PeerCertificates, time.Now())
}

func judgeCertificate(about, host string, chain []*x509.Certificate, now time.Time) finding {
	leaf := chain[0]
	rest := x509.NewCertPool()
	for _, c := range chain[1:] {
		rest.AddCert(c)
	}
	_, untrusted := leaf.Verify(x509.VerifyOptions{DNSName: host, Intermediates: rest, CurrentTime: now})
	left := leaf.NotAfter.Sub(now)
	soon := min(expiresSoon, leaf.NotAfter.Sub(leaf.NotBefore)/6) // certificates of our own CA live for hours
	until := "until " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	switch {
	case leaf.VerifyHostname(host) != nil:
		return finding{stateFail, about, "it is for another name", "give the site a certificate for " + host + ", or remove the line `tls` to have one made"}
	case left <= 0:
		return finding{stateFail, about, "it ended at " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"), "renew it; see Caddy's log for why that did not happen"}
	case left < soon:
		return finding{stateWarn, about, "it ends soon: " + until, "renew it; see Caddy's log for why that did not happen"}
	case untrusted != nil:
		return finding{stateWarn, about, "it is good " + until + ", but this machine does not trust who issued it", "install the CA's root on every machine that opens the site"}
	}
	return finding{stateOK, about, "it is good " + until, ""}
}

// dialable turns the first TCP listener into an address to connect to.
func dialable(listen []string) string {
	for _, l := range listen {
		a, err := caddy.ParseNetworkAddressWithDefaults(l, "tcp", 443)
		if err != nil || !strings.HasPrefix(a.Network, "tcp") {
			continue
		}
		host := a.Host
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, fmt.Sprint(a.StartPort))
	}
	return ""
}
