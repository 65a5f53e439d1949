package caddymodule

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
)

// examineMaster does with a master key in a KMS what the program will do with it. A key file was looked at with the store.
func examineMaster(ctx context.Context, app *App) []finding {
	if app.MasterRaw == nil {
		return nil
	}
	quiet, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	var m masterSite
	m.MasterRaw = app.MasterRaw
	if err := m.provisionMaster(quiet); err != nil {
		return []finding{{stateFail, "master", err.Error(), "mend the line `master`"}}
	}
	aws, ok := m.master.(*MasterAWSKMS)
	if !ok {
		return nil
	}
	kms, err := aws.connect(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return []finding{{stateFail, "master", err.Error(), "mend it as the message says, then run doctor again"}}
	}
	var all []finding
	for _, f := range kms.Diagnose(ctx) {
		state := stateFail
		if f.OK {
			state = stateOK
		}
		all = append(all, finding{state, "master", f.What, f.Remedy})
	}
	return all
}
