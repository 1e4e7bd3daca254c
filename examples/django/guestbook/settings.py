"""Settings of the guestbook; a real project has a database and reads its secret from the environment."""

SECRET_KEY = "for demonstration only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "guestbook.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
USE_TZ = True
TIME_ZONE = "UTC"  # Django changes the time zone of the whole process, and its default is Chicago
