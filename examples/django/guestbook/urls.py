"""The guestbook's pages; `{% url %}` and the redirect know the path under which the project is mounted."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path

PAGE = engines["django"].from_string(
    """<!doctype html><title>Guestbook</title>
<ul>{% for entry in entries %}<li>{{ entry }}{% endfor %}</ul>
<form method="post" action="{% url 'sign' %}">{% csrf_token %}<input name="entry"><button>Sign</button></form>
"""
)

entries: list[str] = []  # per worker and gone with it; a real project has a model


def index(request: HttpRequest) -> HttpResponse:
    """Show the entries and the form."""
    return HttpResponse(PAGE.render({"entries": entries}, request))


def sign(request: HttpRequest) -> HttpResponse:
    """Add an entry and go back."""
    entries.append(request.POST.get("entry", "")[:200])
    del entries[:-20]
    return redirect("index")


urlpatterns = [path("", index, name="index"), path("sign", sign, name="sign")]
