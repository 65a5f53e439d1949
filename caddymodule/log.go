package caddymodule

import (
	"context"
	"log/slog"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// poolLogger is the logger of a resource that outlives the config which opened it: each record goes
// to the default logger of the config that runs by then, under the name "anteroom.<name>".
func poolLogger(name string) *slog.Logger { return slog.New(lateHandler{name: "anteroom." + name}) }

type lateHandler struct {
	name string
	with []func(slog.Handler) slog.Handler // what WithAttrs and WithGroup asked for, in order
}

func (h lateHandler) now() slog.Handler {
	var inner slog.Handler = zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName(h.name), zapslog.AddStacktraceAt(slog.Level(127)))
	for _, f := range h.with {
		inner = f(inner)
	}
	return inner
}

func (h lateHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.now().Enabled(ctx, l) }

func (h lateHandler) Handle(ctx context.Context, r slog.Record) error { return h.now().Handle(ctx, r) }

func (h lateHandler) and(f func(slog.Handler) slog.Handler) slog.Handler {
	return lateHandler{h.name, append(slices.Clone(h.with), f)}
}

func (h lateHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(in slog.Handler) slog.Handler { return in.WithAttrs(attrs) })
}

func (h lateHandler) WithGroup(name string) slog.Handler {
	return h.and(func(in slog.Handler) slog.Handler { return in.WithGroup(name) })
}
