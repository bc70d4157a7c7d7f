/* The library that the program brings along. */
const char *greeting(void);

const char *greeting(void)
{
    return "greeting from its own library";
}
