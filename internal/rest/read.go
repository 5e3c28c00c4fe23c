package rest

import (
	"bytes"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// get serves one object.
func (h *Handler) get(w http.ResponseWriter, q *request) error {
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	if q.query != nil {
		options, err := q.getOptions()
		if err == nil {
			err = h.API.Reached(q.api(), options.ResourceVersion)
		}
		if err != nil {
			return err
		}
	}
	obj, err := h.API.Get(q.Context(), q.api())
	if err != nil {
		return err
	}
	return h.answer(w, q, http.StatusOK, f, obj)
}

// answer sends one stored object in the form that was asked for.
func (h *Handler) answer(w http.ResponseWriter, q *request, code int, f form, obj kind.Object) error {
	include, err := q.includeObject(f)
	if err != nil {
		return err
	}
	b, err := h.encoded(w, q, func(b *bytes.Buffer) error {
		if err := h.appendView(b, q.res, obj, f, include); err != nil {
			return err
		}
		return finish(b, f)
	})
	if err != nil {
		return err
	}
	defer giveBuffer(b)
	write(w, q.Request, code, f, b)
	return nil
}

// list serves a page of objects.
func (h *Handler) list(w http.ResponseWriter, q *request) error {
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	options, err := q.listOptions()
	if err != nil {
		return err
	}
	list, err := h.API.List(q.Context(), q.api(), options)
	if err != nil {
		return err
	}
	return h.answerList(w, q, f, listMeta(list), list.Items)
}

func listMeta(list *api.List) metav1.ListMeta {
	return metav1.ListMeta{
		ResourceVersion:    strconv.FormatInt(int64(list.Revision), 10),
		Continue:           list.Continue,
		RemainingItemCount: list.Remaining,
	}
}

// answerList sends a list in the form that was asked for.
func (h *Handler) answerList(w http.ResponseWriter, q *request, f form, meta metav1.ListMeta, items []kind.Object) error {
	include, err := q.includeObject(f)
	if err != nil {
		return err
	}
	if f.view == viewObject && (f.media == mediaProtobuf || f.media == mediaJSON && !f.pretty) {
		return h.streamList(w, q, f, meta, items)
	}
	if f.media != mediaProtobuf && bulk(items, f, include) > largeAnswer {
		return h.streamView(w, q, f, meta, items, include)
	}
	b, err := h.encoded(w, q, func(b *bytes.Buffer) error {
		if err := h.appendListView(b, q.res, meta, items, f, include); err != nil {
			return err
		}
		return finish(b, f)
	})
	if err != nil {
		return err
	}
	defer giveBuffer(b)
	write(w, q.Request, http.StatusOK, f, b)
	return nil
}
