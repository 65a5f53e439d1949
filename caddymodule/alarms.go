package caddymodule

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Alarm is where alarms go besides the log.
type Alarm struct {
	// Address that each alarm is posted to as JSON: https, or http on 127.0.0.1, ::1 and localhost. One that holds a secret, as those of
	// chat programs do, is a placeholder: {file./run/secrets/alarm-url} or {env.ALARM_URL}.
	Webhook string `json:"webhook"`
	// Sent with it as `Authorization: Bearer`, as a placeholder: {file./run/secrets/alarm} or {env.ALARM_TOKEN}.
	Token string `json:"token,omitempty"`

	address string // resolved
	secret  alarm.Secret
	key     string // names address and token, and does not say them
}

// unmarshal reads
//
//	alarm webhook URL {
//		token {file./run/secrets/alarm}
//	}
func (l *Alarm) unmarshal(d *caddyfile.Dispenser) error {
	if args := d.RemainingArgs(); len(args) != 2 || args[0] != "webhook" {
		return d.Errf("write `alarm webhook https://alarms.hospital.example/anteroom`")
	} else {
		l.Webhook = args[1]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "token" {
			return d.Errf("unrecognized line %q in alarm; want token", d.Val())
		}
		if err := oneArg(d, &l.Token); err != nil {
			return err
		}
	}
	if strings.Contains(l.Webhook, "{") {
		return nil // provision sees what it stands for
	}
	if err := checkWebhook(l.Webhook); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// checkWebhook never says the address: it may hold a secret.
func checkWebhook(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && !(u.Scheme == "http" && isLocal(u.Hostname())) {
		return errors.New("alarm webhook: write an https address, or http on this machine, without user name and password")
	}
	return nil
}

func (a *App) checkAlarm() error {
	if a.Alarm == nil {
		return nil
	}
	return checkWebhook(a.Alarm.address)
}

func isLocal(host string) bool { return host == "127.0.0.1" || host == "::1" || host == "localhost" }

// provision resolves address and token.
func (l *Alarm) provision(log *slog.Logger) error {
	var text string
	err := errors.Join(resolve("alarm webhook", l.Webhook, &l.address), resolve("alarm token", l.Token, &text))
	if err != nil {
		return err
	}
	l.key = fmt.Sprintf("%x", sha256.Sum256([]byte(l.address+"\x00"+text)))
	if text == "" {
		return nil
	}
	if text == l.Token {
		log.Warn("the token of the alarms stands in the config itself, which is stored and shown by the admin API; write {file./path} or {env.NAME} instead")
	}
	if l.secret, err = alarm.NewSecret(text); err != nil {
		return fmt.Errorf("alarm token: %w", err)
	}
	return nil
}

// alarmKey names the alarm in the pool: what waits for its webhook survives a reload.
func (a *App) alarmKey() string {
	if a.Alarm == nil {
		return "alarm"
	}
	return "alarm " + a.Alarm.key
}

func (a *App) openAlarm() (*alarm.Alarm, func() error, error) {
	c := alarm.Config{Logger: poolLogger("alarm")}
	if a.Alarm != nil {
		c.Webhook, c.Token = a.Alarm.address, a.Alarm.secret
	}
	l, err := alarm.New(c)
	if err != nil {
		return nil, nil, err
	}
	return l, l.Close, nil
}

// watch is who is told and who keeps count: alarms, emergency accesses, view budgets.
type watch struct {
	alarm     *alarm.Alarm
	emergency *emergency.Ledger
	budget    *budget.Budget
	stop      func() // ends the sweeping; may be called again
}

// openWatch begins to sweep the reviews, which ends with the config.
func (a *App) openWatch(st openStore, log audit.Recorder) (watch, error) {
	al, err := a.alarmRef.open(a.openAlarm)
	if err != nil {
		return watch{}, fmt.Errorf("opening alarms: %w", err)
	}
	w := watch{alarm: al}
	var err1, err2 error
	w.emergency, err1 = emergency.New(emergency.Config{Store: st.Store, Sealer: st.envelope, Audit: log, Alarm: al, Logger: a.logger})
	w.budget, err2 = budget.New(budget.Config{Store: st.Store, Sealer: st.envelope, Logger: a.logger})
	if err := errors.Join(err1, err2); err != nil {
		return watch{}, fmt.Errorf("opening emergency access and budgets: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var sweeping sync.WaitGroup
	sweeping.Go(func() { w.emergency.Run(ctx) })
	w.stop = func() { cancel(); sweeping.Wait() }
	return w, nil
}
