"""The guestbook as an ASGI application: the file that `django-admin startproject` writes."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")

application = get_asgi_application()
